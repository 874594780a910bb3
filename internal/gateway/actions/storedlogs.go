// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/stored"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// storedTimeout bounds all that one request reads of stores, and what it needs for it.
const storedTimeout = 10 * time.Second

// storedStreams returns the ends of the streams of instances whose Pods are gone, in the order of the indexes, from the
// objects that the last attempt stored. Nothing is known of one that cannot be read: the log says why.
func (c *call) storedStreams(ctx context.Context, job *v1alpha1.BatchJob, task *view.Task, indexes []int) []view.Streams {
	out := make([]view.Streams, len(indexes))
	if len(indexes) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, storedTimeout)
	defer cancel()
	r := &storedReader{call: c, task: task.Name, secrets: map[string]*corev1.Secret{}, failures: map[string]error{}}
	var err error
	if r.list, err = c.authentications(ctx, job, task.Name); err != nil {
		r.report(ctx, "all", err)
		return out
	}
	var wg sync.WaitGroup
	for i, index := range indexes {
		to := task.Redirect(index)
		for _, s := range []struct {
			dir, file string
			into      *[]byte
		}{{to.StdoutRedirectPath, to.StdoutRedirectFileName, &out[i].Stdout}, {to.StderrRedirectPath, to.StderrRedirectFileName, &out[i].Stderr}} {
			if s.dir == "" {
				continue
			}
			object, keys, err := r.find(ctx, s.dir, s.file)
			if err != nil {
				r.report(ctx, s.file, err)
				continue
			}
			wg.Go(func() {
				end, err := c.Stored.End(ctx, c.client.Namespace, object, keys)
				if err != nil {
					r.report(ctx, s.file, err)
				}
				*s.into = end
			})
		}
	}
	wg.Wait()
	return out
}

// authentications returns those that count for a task: its own, or else those of its ComputeEnv.
func (c *call) authentications(ctx context.Context, job *v1alpha1.BatchJob, task string) ([]v1alpha1.Authentication, error) {
	whole, err := objects.WholeJob(ctx, c.client, job.Name) // the cache does not have them
	if err != nil {
		return nil, err
	}
	if whole == nil || whole.UID != job.UID {
		return nil, errors.New("the job was deleted")
	}
	for i := range whole.Spec.Job.Tasks {
		t := &whole.Spec.Job.Tasks[i]
		if resolve.TaskName(t) != task {
			continue
		}
		if len(t.Authentications) > 0 || t.EnvID == "" {
			return t.Authentications, nil
		}
		env, err := c.Objects.Env(ctx, c.client, t.EnvID)
		if err != nil {
			return nil, err
		}
		return env.Spec.Authentications, nil
	}
	return nil, errors.New("the job has no such task")
}

// storedReader finds the objects of one task, and reads each Secret once.
type storedReader struct {
	*call
	task     string
	list     []v1alpha1.Authentication
	secrets  map[string]*corev1.Secret
	failures map[string]error // of Secrets
}

// find returns the object of a stream and the keys that it is read with. A store without a Secret is not read: there the
// gateway's place in the network, and not the caller's key, would decide what the caller sees.
func (r *storedReader) find(ctx context.Context, dir, file string) (stored.Object, stored.Keys, error) {
	store, prefix, ok := podspec.StoreOf(r.Catalog(), dir, r.list)
	switch {
	case !ok:
		return stored.Object{}, stored.Keys{}, errors.New("neither the catalogue nor the vendor names the endpoint of the store")
	case store.KeySecret == "":
		return stored.Object{}, stored.Keys{}, errors.New("no Secret has a key of the store")
	}
	secret, err := r.secret(ctx, store.KeySecret)
	if err != nil {
		return stored.Object{}, stored.Keys{}, err
	}
	keys := stored.Keys{ID: store.SecretID, Secret: entry(secret, agentapi.SecretKeyFile)}
	if store.KeyField == "" {
		keys.ID, keys.Token = entry(secret, agentapi.SecretIDFile), entry(secret, agentapi.TokenFile)
	}
	return stored.Object{Store: store, Key: prefix + file}, keys, nil
}

// secret reads a Secret of the namespace, as the caller.
func (r *storedReader) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	if err := r.failures[name]; err != nil {
		return nil, err
	}
	if known := r.secrets[name]; known != nil {
		return known, nil
	}
	secret := &corev1.Secret{}
	if err := r.client.Get(ctx, client.ObjectKey{Namespace: r.client.Namespace, Name: name}, secret); err != nil {
		r.failures[name] = fmt.Errorf("reading the key of the store as the caller: %w", err)
		return nil, r.failures[name]
	}
	r.secrets[name] = secret
	return secret, nil
}

// entry is an entry of a Secret, as the agent reads it.
func entry(secret *corev1.Secret, name string) string {
	return strings.TrimSpace(string(secret.Data[name]))
}

// report logs why a stream is not known.
func (r *storedReader) report(ctx context.Context, file string, err error) {
	log.FromContext(ctx).V(1).Info("Could not read a stored stream", "namespace", r.client.Namespace, "task", r.task, "file", file, "error", err.Error())
}
