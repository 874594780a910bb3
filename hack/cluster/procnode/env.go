// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// environ is a list of variables that remembers the order of first setting.
type environ struct {
	names  []string
	values map[string]string
}

func (e *environ) set(name, value string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

// list returns the variables as NAME=value, the form a process is started with.
func (e *environ) list() []string {
	var out []string
	for _, name := range e.names {
		out = append(out, name+"="+e.values[name])
	}
	return out
}

// expand replaces $(NAME) by the variable's value. An unknown name stays as it
// is, and $$ stands for one $. Source: the Container.command field.
func (e *environ) expand(s string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")")
		value, known := e.values[name]
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteString("$")
			s = after[1:]
		case strings.HasPrefix(after, "(") && closed && known:
			out.WriteString(value)
			s = rest
		case strings.HasPrefix(after, "(") && closed:
			out.WriteString("$(" + name + ")")
			s = rest
		default:
			out.WriteString("$")
			s = after
		}
	}
}

// variables finds the values of a container's variables.
type variables struct {
	client       kubernetes.Interface
	pod          *corev1.Pod
	nodeName, ip string
}

// addTo sets the variables of envFrom and env, in that order, on top of what e
// already has. A later variable may use an earlier one.
func (v variables) addTo(ctx context.Context, e *environ, c *corev1.Container) error {
	for _, from := range c.EnvFrom {
		data, err := v.source(ctx, from)
		if err != nil {
			return err
		}
		for _, key := range sortedKeys(data) {
			e.set(from.Prefix+key, data[key])
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			e.set(env.Name, e.expand(env.Value))
			continue
		}
		value, found, err := v.valueFrom(ctx, env.ValueFrom)
		if err != nil {
			return fmt.Errorf("variable %s: %w", env.Name, err)
		}
		if found {
			e.set(env.Name, value)
		}
	}
	return nil
}

func (v variables) source(ctx context.Context, from corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		return v.configMap(ctx, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		return v.secret(ctx, from.SecretRef.Name, from.SecretRef.Optional)
	}
	return nil, nil
}

// valueFrom returns false when an optional key does not exist.
func (v variables) valueFrom(ctx context.Context, from *corev1.EnvVarSource) (string, bool, error) {
	var data map[string]string
	var err error
	var what, key string
	var optional *bool
	switch {
	case from.FieldRef != nil:
		value, err := v.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		what, key, optional = "ConfigMap "+v.pod.Namespace+"/"+r.Name, r.Key, r.Optional
		data, err = v.configMap(ctx, r.Name, r.Optional)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		what, key, optional = "Secret "+v.pod.Namespace+"/"+r.Name, r.Key, r.Optional
		data, err = v.secret(ctx, r.Name, r.Optional)
	default:
		return "", false, fmt.Errorf("this kind of valueFrom is not supported by the process node")
	}
	if err != nil {
		return "", false, err
	}
	value, ok := data[key]
	if !ok && !isTrue(optional) {
		return "", false, fmt.Errorf("couldn't find key %s in %s", key, what)
	}
	return value, ok, nil
}

// configMap returns the data of a ConfigMap, nil for a missing optional one.
func (v variables) configMap(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	cm, err := v.client.CoreV1().ConfigMaps(v.pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, ignoreMissing(err, optional)
	}
	data := map[string]string{}
	for k, b := range cm.BinaryData {
		data[k] = string(b)
	}
	for k, s := range cm.Data {
		data[k] = s
	}
	return data, nil
}

// secret returns the data of a Secret, nil for a missing optional one.
func (v variables) secret(ctx context.Context, name string, optional *bool) (map[string]string, error) {
	secret, err := v.client.CoreV1().Secrets(v.pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, ignoreMissing(err, optional)
	}
	data := map[string]string{}
	for k, b := range secret.Data {
		data[k] = string(b)
	}
	return data, nil
}

func ignoreMissing(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil
	}
	return err
}

// field returns the value of a downward API field path.
func (v variables) field(path string) (string, error) {
	if before, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok {
		switch before {
		case "metadata.labels":
			return v.pod.Labels[key], nil
		case "metadata.annotations":
			return v.pod.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return v.pod.Name, nil
	case "metadata.namespace":
		return v.pod.Namespace, nil
	case "metadata.uid":
		return string(v.pod.UID), nil
	case "spec.nodeName":
		return v.nodeName, nil
	case "spec.serviceAccountName":
		return v.pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs":
		return v.ip, nil
	}
	return "", fmt.Errorf("field %q is not supported by the process node", path)
}
