// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
)

// Options say what a body does not.
type Options struct {
	// Name is the name of the BatchJob or ComputeEnv. Empty: one is made from what the
	// body calls it and from its content, so that the same body always gets the same name.
	Name string
	// Namespace is that of all objects. Empty: none is written.
	Namespace string
}

// Request is a body in the cluster's terms: one of Job and Env.
type Request struct {
	Job *v1alpha1.BatchJob   // of SubmitJob
	Env *v1alpha1.ComputeEnv // of CreateComputeEnv
	// Secrets are the credentials of the body, in its order. They must be there
	// before Job is.
	Secrets []corev1.Secret
	// Notes say what of the body was passed over, other than common parameters.
	Notes []string
}

// action returns the action of the request, its spec, and the name of its object.
func (r *Request) action() (*action, reflect.Value) {
	if r.Env != nil {
		return createComputeEnv, reflect.ValueOf(&r.Env.Spec).Elem()
	}
	return submitJob, reflect.ValueOf(&r.Job.Spec).Elem()
}

// byteOrderMark begins what some editors save as UTF-8.
var byteOrderMark = []byte("\ufeff")

// FromBody converts a body of SubmitJob or CreateComputeEnv, with the headers of an HTTP request
// before it or without: JSON; else a command of the vendor's tool if it begins as one; else lines of key=value if there are several; else an
// encoded form. The error is of type Problems. The result is not validated: see package
// validation for that. Cost: linear in the body, but for sorting.
func FromBody(body []byte, o Options) (*Request, error) {
	d := &decoder{action: submitJob}
	body = d.withoutHeaders(bytes.TrimPrefix(body, byteOrderMark))
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		d.Fail(errcode.MissingParameter, "", "the body is empty")
	case !utf8.Valid(body):
		d.Fail(errcode.InvalidParameter, "", "the body must be UTF-8")
	case trimmed[0] == '{' || trimmed[0] == '[' || json.Valid(trimmed):
		d.decodeJSON(trimmed)
	case isCommandLine(trimmed):
		d.decodeCommandLine(string(trimmed))
	case bytes.IndexByte(trimmed, '\n') >= 0:
		d.decodeLines(string(body))
	default: // the spaces at its end may be those of a command
		d.decodeForm(strings.TrimRight(strings.TrimLeftFunc(string(body), unicode.IsSpace), "\r\n"))
	}
	if len(d.Problems()) > 0 {
		return nil, d.Problems()
	}
	return d.result(o), nil
}

// result returns what was decoded.
func (d *decoder) result(o Options) *Request {
	types := metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: d.action.kind}
	meta := metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace}
	r := &Request{Notes: d.notes}
	if d.action == createComputeEnv {
		meta.Name = cmp.Or(meta.Name, nameOf(d.env.EnvName, defaultEnvName, &d.env))
		r.Env = &v1alpha1.ComputeEnv{TypeMeta: types, ObjectMeta: meta, Spec: d.env}
		r.Secrets = d.makeSecrets(&r.Env.ObjectMeta, func(m *secretMaker) { m.ofEnv(&r.Env.Spec) })
		return r
	}
	meta.Name = cmp.Or(meta.Name, nameOf(d.job.Job.JobName, defaultName, &d.job))
	r.Job = &v1alpha1.BatchJob{TypeMeta: types, ObjectMeta: meta, Spec: d.job}
	r.Secrets = d.makeSecrets(&r.Job.ObjectMeta, func(m *secretMaker) { m.ofJob(&r.Job.Spec.Job) })
	return r
}

// Length of a generated name: what is left for the Secrets' suffixes fits into a label.
const (
	maxBaseName    = 40
	hashLength     = 8
	defaultName    = "batchjob"
	defaultEnvName = "computeenv"
)

// nameOf makes a name out of what an object is called, or a default, and a hash of what it
// is. At this point a credential is only a number in spec, so the hash says nothing about it.
func nameOf(called, otherwise string, spec any) string {
	var b strings.Builder
	for _, r := range strings.ToLower(called) {
		switch {
		case b.Len() == maxBaseName:
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	base := strings.Trim(b.String(), "-")
	if base == "" {
		base = otherwise
	}
	content, _ := json.Marshal(spec) // the types have nothing that cannot be encoded
	sum := sha256.Sum256(content)
	return base + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

// FromParams converts the parameters of a SubmitJob or CreateComputeEnv request, by the action that they are of.
// The error is of type Problems. The result is not validated.
func FromParams(o *params.Object, options Options) (*Request, error) {
	d := &decoder{}
	d.begin(actionOf(o.Action(), false))
	d.Object(o, d.root())
	if len(d.Problems()) > 0 {
		return nil, d.Problems()
	}
	return d.result(options), nil
}

// TaskFromParams converts the parameters of one task, as they stand in a template, and the credentials in it;
// the names of the Secrets begin with that of options. The error is of type Problems.
func TaskFromParams(o *params.Object, options Options) (*v1alpha1.Task, []corev1.Secret, error) {
	d := &decoder{job: v1alpha1.BatchJobSpec{Job: v1alpha1.Job{Tasks: make([]v1alpha1.Task, 1)}}}
	d.Action, d.Shape, d.Secret = o.Action(), taskShape, d.setSecret
	task := &d.job.Job.Tasks[0]
	d.Object(o, reflect.ValueOf(task).Elem())
	if len(d.Problems()) > 0 {
		return nil, nil, d.Problems()
	}
	owner := &metav1.ObjectMeta{Name: options.Name, Namespace: options.Namespace}
	return task, d.makeSecrets(owner, func(m *secretMaker) { m.ofJob(&d.job.Job) }), nil
}
