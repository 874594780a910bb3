// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Options say what a body does not.
type Options struct {
	// Name is the name of the BatchJob. Empty: one is made from the job's name and
	// content, so that the same body always gets the same name.
	Name string
	// Namespace is that of all objects. Empty: none is written.
	Namespace string
}

// Request is a body in the cluster's terms.
type Request struct {
	Job *v1alpha1.BatchJob
	// Secrets are the credentials of the body, in its order. They must be there
	// before Job is.
	Secrets []corev1.Secret
}

// FromBody converts a SubmitJob body: JSON if it begins with a brace, else lines of
// key=value if there are several, else an encoded form. The error is of type Problems.
// The result is not validated: see package validation for that. Cost: linear in the
// body, but for sorting.
func FromBody(body []byte, o Options) (*Request, error) {
	d, spec := &decoder{}, v1alpha1.BatchJobSpec{}
	switch body = bytes.TrimSpace(body); {
	case len(body) == 0:
		d.fail(errcode.MissingParameter, "", "the body is empty")
	case !utf8.Valid(body):
		d.fail(errcode.InvalidParameter, "", "the body must be UTF-8")
	case body[0] == '{' || body[0] == '[':
		d.decodeJSON(body, &spec)
	case bytes.IndexByte(body, '\n') >= 0:
		d.decodeLines(string(body), &spec)
	default:
		d.decodeForm(string(body), &spec)
	}
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	job := &v1alpha1.BatchJob{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "BatchJob"},
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace},
		Spec:       spec,
	}
	if job.Name == "" {
		job.Name = nameOf(&spec)
	}
	return &Request{Job: job, Secrets: d.makeSecrets(job)}, nil
}

// Length of a generated name: what is left for the Secrets' suffixes fits into a label.
const (
	maxBaseName = 40
	hashLength  = 8
	defaultName = "batchjob"
)

// nameOf makes a name out of what a job is called and a hash of what it is. At this
// point a credential is only a number in spec, so the hash says nothing about it.
func nameOf(spec *v1alpha1.BatchJobSpec) string {
	var b strings.Builder
	for _, r := range strings.ToLower(spec.Job.JobName) {
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
		base = defaultName
	}
	content, _ := json.Marshal(spec) // the types have nothing that cannot be encoded
	sum := sha256.Sum256(content)
	return base + "-" + hex.EncodeToString(sum[:])[:hashLength]
}
