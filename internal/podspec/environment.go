// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// variables returns the user's variables of the API and then the system's, which therefore win, and those alone:
// they say what an instance is.
func variables(spec *resolve.Job, t *resolve.Task, in resolve.Instance) (all, system []corev1.EnvVar) {
	all = make([]corev1.EnvVar, 0, len(t.Spec.EnvVars)+len(t.RunOptions.Env)+4)
	for _, list := range [][]v1alpha1.EnvVar{t.RunOptions.Env, t.Spec.EnvVars} {
		for _, v := range list {
			all = append(all, corev1.EnvVar{Name: v.Name, Value: literal(v.Value)})
		}
	}
	users := len(all)
	all = append(all,
		corev1.EnvVar{Name: v1alpha1.EnvJobID, Value: spec.ID},
		corev1.EnvVar{Name: v1alpha1.EnvTaskName, Value: t.Name},
		corev1.EnvVar{Name: v1alpha1.EnvTaskInstanceNum, Value: strconv.Itoa(t.InstanceNum)},
		corev1.EnvVar{Name: v1alpha1.EnvTaskInstanceIndex, Value: strconv.Itoa(in.Index)},
	)
	return all, all[users:]
}

// literal guards text against the expansion of $(NAME) and $$ that Kubernetes does in
// commands and values: a shell must get its own $(date) and $$ as they were written.
func literal(text string) string {
	return strings.ReplaceAll(text, "$", "$$")
}

// addEnvironment adds the variables of kubernetes. They come behind the others, so that they
// can refer to them and win. Those of the system they never replace, whoever let them in.
func (b *builder) addEnvironment() {
	k := b.env.Kubernetes
	for i := range k.EnvFrom {
		from := &k.EnvFrom[i]
		out := corev1.EnvFromSource{Prefix: from.Prefix}
		if r := from.SecretRef; r != nil {
			out.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: r.Name}, Optional: truth(r.Optional)}
		}
		if r := from.ConfigMapRef; r != nil {
			out.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: r.Name}, Optional: truth(r.Optional)}
		}
		b.container.EnvFrom = append(b.container.EnvFrom, out)
	}
	b.container.Env = slices.Grow(b.container.Env, len(k.Env))
	for i := range k.Env {
		if v := &k.Env[i]; !strings.HasPrefix(v.Name, v1alpha1.EnvReservedPrefix) {
			b.container.Env = append(b.container.Env, corev1.EnvVar{Name: v.Name, Value: v.Value, ValueFrom: valueFrom(v.ValueFrom)})
		}
	}
}

func valueFrom(s *v1alpha1.EnvVarSource) *corev1.EnvVarSource {
	if s == nil {
		return nil
	}
	out := &corev1.EnvVarSource{}
	if r := s.SecretKeyRef; r != nil {
		out.SecretKeyRef = &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: r.Name}, Key: r.Key, Optional: truth(r.Optional)}
	}
	if r := s.ConfigMapKeyRef; r != nil {
		out.ConfigMapKeyRef = &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: r.Name}, Key: r.Key, Optional: truth(r.Optional)}
	}
	if r := s.FieldRef; r != nil {
		out.FieldRef = field(r.FieldPath)
	}
	return out
}

func field(path string) *corev1.ObjectFieldSelector {
	return &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}
}
