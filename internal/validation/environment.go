// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
)

// maxEnvFrom counts the Secrets and ConfigMaps whose keys become variables. Variables are
// counted by maxEnvVars, and bounded by maxEnvVar, as those of a task.
const maxEnvFrom = 32

// fieldPaths are the fields of its Pod that a command may know.
var fieldPaths = []string{
	"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
}

// choice is one of several fields of which exactly one must be given.
type choice struct {
	name  string
	given bool
}

// exactlyOne checks that one of the choices is given, and no other.
func (c *checker) exactlyOne(choices []choice, path *field.Path) {
	var names, given []string
	for _, ch := range choices {
		names = append(names, ch.name)
		if ch.given {
			given = append(given, ch.name)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		c.wrong(path, "", "must have exactly one of %s, got none", strings.Join(names, ", "))
	default:
		c.wrong(path, "", "must have exactly one of %s, got %s", strings.Join(names, ", "), strings.Join(given, " and "))
	}
}

// checkEnv checks kubernetes.env.
func (c *checker) checkEnv(vars []v1alpha1.KubernetesEnvVar, path *field.Path) {
	if !c.checkCount(len(vars), maxEnvVars, path, "env") {
		return
	}
	names := make(map[string]bool, len(vars))
	for i := range vars {
		v, p := &vars[i], path.Child("env").Index(i)
		switch {
		case !c.required(v.Name, p, "name"):
		case !isVariableName(v.Name):
			c.wrong(p, "name", "must be letters, digits and _, not beginning with a digit, got %s", quote(v.Name))
		case strings.HasPrefix(v.Name, v1alpha1.EnvReservedPrefix), strings.HasPrefix(v.Name, v1alpha1.EnvOperatorPrefix):
			c.wrong(p, "name", "must not begin with %s or %s, which are reserved, got %s", v1alpha1.EnvReservedPrefix, v1alpha1.EnvOperatorPrefix, quote(v.Name))
		case names[v.Name]:
			c.wrong(p, "name", "must be unique, got %s again", quote(v.Name))
		}
		names[v.Name] = true
		if strings.IndexByte(v.Value, 0) >= 0 {
			c.wrong(p, "value", "must not have a NUL character")
		} else if n := len(v.Name) + 1 + len(v.Value); n > maxEnvVar {
			c.wrong(p, "value", "must be at most %d bytes together with its name, got %d", maxEnvVar, n)
		}
		if s := v.ValueFrom; s != nil {
			if v.Value != "" {
				c.wrong(p, "valueFrom", "must not be given together with value")
			}
			c.checkValueFrom(s, p.Child("valueFrom"))
		}
	}
}

func (c *checker) checkValueFrom(s *v1alpha1.EnvVarSource, path *field.Path) {
	c.exactlyOne([]choice{{"secretKeyRef", s.SecretKeyRef != nil}, {"configMapKeyRef", s.ConfigMapKeyRef != nil}, {"fieldRef", s.FieldRef != nil}}, path)
	if r := s.SecretKeyRef; r != nil {
		c.checkKeySelector(r, path.Child("secretKeyRef"))
		c.checkSecretName(r.Name, path.Child("secretKeyRef"), "name")
	}
	if r := s.ConfigMapKeyRef; r != nil {
		c.checkKeySelector(r, path.Child("configMapKeyRef"))
	}
	if r := s.FieldRef; r != nil && c.required(r.FieldPath, path.Child("fieldRef"), "fieldPath") {
		c.oneOfValues(r.FieldPath, fieldPaths, path.Child("fieldRef"), "fieldPath")
	}
}

func (c *checker) checkKeySelector(r *v1alpha1.KeySelector, path *field.Path) {
	c.checkRequiredName(r.Name, path, "name")
	c.checkDataKey(r.Key, path)
}

// checkRequiredName checks the name of an object, which must be given.
func (c *checker) checkRequiredName(value string, path *field.Path, name string) {
	if c.required(value, path, name) {
		c.checkName(value, path, name)
	}
}

// checkDataKey checks the key of a Secret or a ConfigMap, which must be given.
func (c *checker) checkDataKey(key string, path *field.Path) {
	if c.required(key, path, "key") && len(utilvalidation.IsConfigMapKey(key)) > 0 {
		c.wrong(path, "key", "must be letters, digits, -, _ and ., at most %d, got %s", maxObjectName, quote(key))
	}
}

// checkEnvFrom checks kubernetes.envFrom.
func (c *checker) checkEnvFrom(sources []v1alpha1.EnvFromSource, path *field.Path) {
	if !c.checkCount(len(sources), maxEnvFrom, path, "envFrom") {
		return
	}
	for i := range sources {
		s, p := &sources[i], path.Child("envFrom").Index(i)
		if s.Prefix != "" && (!isVariableName(s.Prefix) || len(s.Prefix) > maxObjectName) {
			c.wrong(p, "prefix", "must be letters, digits and _, not beginning with a digit, at most %d, got %s", maxObjectName, quote(s.Prefix))
		}
		c.exactlyOne([]choice{{"secretRef", s.SecretRef != nil}, {"configMapRef", s.ConfigMapRef != nil}}, p)
		if r := s.SecretRef; r != nil {
			c.checkRequiredName(r.Name, p.Child("secretRef"), "name")
			c.checkSecretName(r.Name, p.Child("secretRef"), "name")
		}
		if r := s.ConfigMapRef; r != nil {
			c.checkRequiredName(r.Name, p.Child("configMapRef"), "name")
		}
	}
}
