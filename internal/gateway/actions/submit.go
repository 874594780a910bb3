// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/sanitize"
	"batchcompute.dev/operator/internal/validation"
)

// Prefixes of the names of objects that the gateway creates.
const (
	jobPrefix = "job-"
	envPrefix = "env-"
)

// maxTries is how often a write is tried that others get in the way of, and pauseStep the mean by which each pause
// before another try is longer than the last.
const (
	maxTries  = 30
	pauseStep = 10 * time.Millisecond
)

// pause waits before another try. Its length is random, so that those who are in each other's way part.
func pause(ctx context.Context, try int) {
	select {
	case <-ctx.Done():
	case <-time.After(mathrand.N(2 * time.Duration(try) * pauseStep)): //nolint:gosec // it is no secret
	}
}

// submission is a request that becomes an object, under a name that the same request gets again.
type submission struct {
	params *params.Object
	name   string
	token  string
}

// newSubmission names the object of a request: after the ClientToken, or else after a random text. So the cluster
// creates one object for a token, however many requests with it arrive at the same time, and wherever.
func newSubmission(c *call, prefix string) *submission {
	// What is wrong with the request is found when it is converted.
	var in struct {
		Placement, Job, ComputeEnv *params.Object
		ClientToken                string
	}
	_ = c.params.Decode(&in)
	s := &submission{params: c.params, token: in.ClientToken}
	if s.name = naming.TokenName(prefix, s.token); s.token == "" {
		s.name = naming.TokenName(prefix, rand.Text())
	}
	return s
}

// convert returns the objects of the request. The names of the Secrets depend on part, which is another for each
// creation: so a Secret that is left of an object that had the name before is never taken for one of this object.
func (s *submission) convert(part string) (*convert.Request, error) {
	r, err := convert.FromParams(s.params, convert.Options{Name: s.name + "-" + part})
	if err != nil {
		return nil, firstProblem(err)
	}
	for i := range r.Secrets {
		r.Secrets[i].Labels = map[string]string{v1alpha1.LabelCredentialsOf: s.name}
	}
	return r, nil
}

// newPart returns a part of the names of Secrets: 8 characters.
func newPart() string { return naming.TokenName("", rand.Text())[:8] }

// jobID is the answer of SubmitJob.
type jobID struct {
	JobID string `json:"JobId"`
}

// submitJob creates a job. A job with passwords and keys is created suspended, then the Secrets, which it owns, and then it
// is resumed: so nothing is left of a request that is refused, and a repeated request continues where the first
// stopped.
func submitJob(ctx context.Context, c *call) (any, error) {
	s := newSubmission(c, jobPrefix)
	for range maxTries {
		job, secrets, err := s.job(newPart())
		if err != nil {
			return nil, err
		}
		job.Namespace = c.client.Namespace
		if id, err := c.sameRequest(ctx, job); id != "" || err != nil {
			return jobID{id}, err
		}
		err = c.client.Create(ctx, job)
		if apierrors.IsAlreadyExists(err) {
			if job, secrets, err = c.existing(ctx, s); err == nil && job == nil {
				continue // it was deleted in this moment
			}
		}
		if err != nil {
			return nil, refusal.Explain(err, func() []validation.Problem { return validation.Validator{Catalog: c.Catalog}.ValidateCreate(job) })
		}
		if err := c.resume(ctx, job, secrets); err != nil {
			return nil, err
		}
		return jobID{naming.JobID(job.UID)}, nil
	}
	return nil, refusal.New(errcode.InternalError, "the job was deleted while it was submitted; repeat the request")
}

// job returns the job of the request as the cluster stores it, and the Secrets of its credentials.
func (s *submission) job(part string) (*v1alpha1.BatchJob, []corev1.Secret, error) {
	r, err := s.convert(part)
	if err != nil {
		return nil, nil, err
	}
	job := r.Job
	job.Name = s.name
	setDefaults(&job.Spec.Job)
	if len(r.Secrets) > 0 {
		job.Spec.Suspend = true
		job.Annotations = map[string]string{v1alpha1.AnnotationAwaitsCredentials: "true", v1alpha1.AnnotationCredentials: part}
	}
	return job, r.Secrets, nil
}

// setDefaults sets the fields that the API server sets by the schema, so that a request can be compared with what is
// stored.
func setDefaults(job *v1alpha1.Job) {
	if job.Priority == nil {
		job.Priority = new(int64(v1alpha1.DefaultPriority))
	}
	if job.TaskExecutionDependOn == "" {
		job.TaskExecutionDependOn = v1alpha1.PreTaskSucceed
	}
	if job.StateIfCreateCvmFailed == "" {
		job.StateIfCreateCvmFailed = v1alpha1.CreateCvmFailedFailed
	}
}

// sameRequest returns the JobId of a job of another name with the ClientToken and the same request, which somebody created
// without the gateway; "" if there is none. One with another request is refused by the webhook.
func (c *call) sameRequest(ctx context.Context, job *v1alpha1.BatchJob) (string, error) {
	if job.Spec.ClientToken == "" {
		return "", nil
	}
	known, err := c.Objects.JobWithToken(job.Namespace, job.Spec.ClientToken)
	if known == nil || err != nil || known.Name == job.Name {
		return "", err
	}
	whole, err := objects.WholeJob(ctx, c.client, known.Name)
	if whole == nil || err != nil || !plan.SameRequest(whole, job) {
		return "", err
	}
	return naming.JobID(whole.UID), nil
}

// existing returns the job that has the name of a submission already, and the Secrets of its credentials; nil if it does
// not exist any more. It is a refusal if it is another request.
func (c *call) existing(ctx context.Context, s *submission) (*v1alpha1.BatchJob, []corev1.Secret, error) {
	known, err := objects.WholeJob(ctx, c.client, s.name)
	if known == nil || err != nil {
		return nil, nil, err
	}
	same, secrets, err := s.job(known.Annotations[v1alpha1.AnnotationCredentials])
	if err != nil {
		return nil, nil, err
	}
	if !plan.SameRequest(known, same) {
		difference := ""
		same.Spec.Suspend, same.Spec.Terminate, same.Spec.RetryToken = known.Spec.Suspend, known.Spec.Terminate, known.Spec.RetryToken
		if changes := (validation.Validator{}).ValidateUpdate(known, same); len(changes) > 0 {
			difference = "; the first difference is " + refusal.APIField(sanitize.Truncate(changes[0].Field.String(), maxField))
		}
		return nil, nil, usedToken("job", naming.JobID(known.UID), difference)
	}
	return known, secrets, nil
}

// maxField is how much of a field's path is repeated. Unit: bytes.
const maxField = 200

// usedToken is the refusal of another request with a ClientToken that was used.
func usedToken(kind, id, difference string) error {
	return refusal.New(errcode.InvalidParameterValue,
		"ClientToken: must be new for each different request: %s %s has this ClientToken and another request%s", kind, id, difference)
}

// resume creates the Secrets of a job that awaits them, and then lets it run.
func (c *call) resume(ctx context.Context, job *v1alpha1.BatchJob, secrets []corev1.Secret) error {
	if job.Annotations[v1alpha1.AnnotationAwaitsCredentials] == "" {
		return nil
	}
	if err := c.createSecrets(ctx, secrets, metav1.OwnerReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "BatchJob", Name: job.Name, UID: job.UID,
	}); err != nil {
		return err
	}
	return c.changeJob(ctx, job.Name, job, func(job *v1alpha1.BatchJob) (map[string]any, error) {
		if job.Annotations[v1alpha1.AnnotationAwaitsCredentials] == "" {
			return nil, nil // a repetition of this request did it
		}
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationAwaitsCredentials: nil}},
			"spec":     map[string]any{"suspend": false},
		}, nil
	})
}

// createSecrets creates Secrets that end with their owner. Those that exist are of an earlier try: nothing else has their
// names.
func (c *call) createSecrets(ctx context.Context, secrets []corev1.Secret, owner metav1.OwnerReference) error {
	for i := range secrets {
		secret := secrets[i].DeepCopy()
		secret.Namespace, secret.OwnerReferences = c.client.Namespace, []metav1.OwnerReference{owner}
		if err := c.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating the Secret of a credential: %w", err)
		}
	}
	return nil
}

// changeJob patches a job under an optimistic lock, and reads it again on a conflict. known is the whole job as it was
// read last, nil to read it first. patch returns the merge patch for a job, nil for none to be made; its resourceVersion
// is added. A job that does not exist is the Refusal JobNotFound.
func (c *call) changeJob(ctx context.Context, name string, known *v1alpha1.BatchJob, patch func(*v1alpha1.BatchJob) (map[string]any, error)) error {
	for try := 1; ; try++ {
		if known == nil {
			var err error
			if known, err = objects.WholeJob(ctx, c.client, name); err != nil {
				return err
			}
			if known == nil {
				return refusal.New(errcode.JobNotFound, "the job was deleted")
			}
		}
		body, err := patch(known)
		if body == nil || err != nil {
			return err
		}
		err = c.patch(ctx, &v1alpha1.BatchJob{}, known, body)
		switch {
		case apierrors.IsNotFound(err):
			return refusal.New(errcode.JobNotFound, "the job was deleted")
		case !apierrors.IsConflict(err), try == maxTries:
			return err
		}
		pause(ctx, try)
		known = nil
	}
}

// patch sends a merge patch of an object that is based on the version of known. It is a conflict if that is not the
// present one. into is a zero object of the same kind.
func (c *call) patch(ctx context.Context, into, known client.Object, body map[string]any) error {
	metadata, ok := body["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		body["metadata"] = metadata
	}
	metadata["resourceVersion"], metadata["uid"] = known.GetResourceVersion(), known.GetUID()
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	into.SetNamespace(known.GetNamespace())
	into.SetName(known.GetName())
	return c.client.Patch(ctx, into, client.RawPatch(types.MergePatchType, text))
}
