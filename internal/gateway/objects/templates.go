// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package objects

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/naming"
)

// CheckTemplateID returns a Refusal for what is no template's identifier.
func CheckTemplateID(id string) error {
	if !naming.IsTemplateID(id) {
		return refusal.New(errcode.TaskTemplateIDMalformed, "TaskTemplateId must be task-tmpl- and 8 characters of 0-9 and a-z")
	}
	return nil
}

// Template returns the TaskTemplate with an identifier, as Job does.
func (f *Finder) Template(ctx context.Context, c *tenant.Client, id string) (*v1alpha1.TaskTemplate, error) {
	if err := CheckTemplateID(id); err != nil {
		return nil, err
	}
	if err := c.Check(ctx, "get", Templates); err != nil {
		return nil, err
	}
	notFound := refusal.New(errcode.TaskTemplateNotFound, "there is no task template %s", id)
	template, err := f.cachedTemplate(c.Namespace, id)
	if template != nil || err != nil {
		return template, err
	}
	key := c.Namespace + "/" + id
	if _, absent := f.absent.Get(key); absent {
		return nil, notFound
	}
	name, err := liveName(ctx, c, "TaskTemplateList", func(o *metav1.PartialObjectMetadata) bool { return naming.TemplateID(o.Name, o.UID) == id })
	if err != nil {
		return nil, err
	}
	if name == "" {
		f.absent.Add(key, nil, absentTTL)
		return nil, notFound
	}
	whole, err := WholeTemplate(ctx, c, name)
	if whole == nil && err == nil {
		return nil, notFound
	}
	return whole, err
}

// cachedTemplate returns the TaskTemplate with an identifier; nil if the cache has none. Of two, since one has the
// identifier of the other as its name, it is the older one.
func (f *Finder) cachedTemplate(namespace, id string) (*v1alpha1.TaskTemplate, error) {
	list, err := found[*v1alpha1.TaskTemplate](f.templates, byID, namespace+"/"+id)
	if len(list) == 0 || err != nil {
		return nil, err
	}
	return slices.MinFunc(list, func(a, b *v1alpha1.TaskTemplate) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	}), nil
}

// AllTemplates returns the TaskTemplates of the identity's namespace, in no order.
func (f *Finder) AllTemplates(ctx context.Context, c *tenant.Client) ([]*v1alpha1.TaskTemplate, error) {
	if err := c.Check(ctx, "list", Templates); err != nil {
		return nil, err
	}
	return found[*v1alpha1.TaskTemplate](f.templates, byNamespace, c.Namespace)
}

// AwaitTemplate waits for a short time until the cache has a generation of a TaskTemplate or a later one; a generation of
// 0 stands for its deletion.
func (f *Finder) AwaitTemplate(ctx context.Context, namespace, id string, generation int64) {
	ctx, cancel := context.WithTimeout(ctx, goneWait)
	defer cancel()
	for {
		template, err := f.cachedTemplate(namespace, id)
		switch {
		case err != nil:
			return
		case generation == 0 && (template == nil || template.DeletionTimestamp != nil):
			return
		case generation > 0 && template != nil && template.Generation >= generation:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cachePoll):
		}
	}
}

// WholeTemplate reads a TaskTemplate from the API server; nil if there is none.
func WholeTemplate(ctx context.Context, c *tenant.Client, name string) (*v1alpha1.TaskTemplate, error) {
	template := &v1alpha1.TaskTemplate{}
	err := c.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, template)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading TaskTemplate %s: %w", name, err)
	}
	return template, nil
}
