// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apikey is what an API key of the gateway is: a Secret with the label batchcompute.dev/api-key in the namespace
// that its requests act in:
//
//	apiVersion: v1
//	kind: Secret
//	metadata:
//	  name: ci
//	  labels: {batchcompute.dev/api-key: "true"}
//	  annotations: {batchcompute.dev/service-account: batchcompute-client}
//	stringData:
//	  secretId: AKID…              # 16-128 letters, digits, - and _
//	  secretKey: …                 # 16-256 printable characters
//	  token: …                     # optional: the session token that requests must have
//	  expiry: 2027-01-01T00:00:00Z # optional
//	  enabled: "false"             # optional: the key is refused
package apikey

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Key is an API key.
type Key struct {
	SecretID, SecretKey string
	// Token is the session token that requests must have; empty: none.
	Token string
	// Namespace is where requests act, ServiceAccount whom they act as.
	Namespace, ServiceAccount string
	// Expiry is when the key stops to be valid; the zero time: never.
	Expiry   time.Time
	Disabled bool
}

// IsUsable reports whether the key may be used at a time.
func (k *Key) IsUsable(now time.Time) bool {
	return !k.Disabled && (k.Expiry.IsZero() || now.Before(k.Expiry))
}

// The entries of a Secret.
const (
	SecretID  = "secretId"
	SecretKey = "secretKey"
	Token     = "token"
	Expiry    = "expiry"
	Enabled   = "enabled"
	// ServiceAccount is the entry for it where the Secret has no annotation.
	ServiceAccount = "serviceAccount"
)

// MaxTokenLength is more than any session token, and MaxEntryLength as much as any other entry may have. Unit: bytes.
const (
	MaxTokenLength = 4096
	MaxEntryLength = 256
)

var (
	secretIDForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{16,128}$`)
	secretKeyForm = regexp.MustCompile(`^[!-~]{16,256}$`)
	accountForm   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
)

// Parse reads a Secret. The error says what is wrong with it and repeats nothing of it.
func Parse(s *corev1.Secret) (*Key, error) {
	entry := func(name string) string { return string(s.Data[name]) }
	k := &Key{
		SecretID: entry(SecretID), SecretKey: entry(SecretKey), Token: entry(Token), Namespace: s.Namespace,
		ServiceAccount: cmp.Or(s.Annotations[v1alpha1.AnnotationServiceAccount], entry(ServiceAccount), v1alpha1.DefaultAPIServiceAccount),
	}
	switch {
	case !secretIDForm.MatchString(k.SecretID):
		return nil, errors.New("secretId must be 16-128 letters, digits, - and _")
	case !secretKeyForm.MatchString(k.SecretKey):
		return nil, errors.New("secretKey must be 16-256 printable ASCII characters without spaces")
	case len(k.Token) > MaxTokenLength:
		return nil, fmt.Errorf("token must be at most %d bytes long", MaxTokenLength)
	case !accountForm.MatchString(k.ServiceAccount):
		return nil, errors.New("the annotation " + v1alpha1.AnnotationServiceAccount + " must be the name of a service account")
	}
	switch entry(Enabled) {
	case "", "true":
	case "false":
		k.Disabled = true
	default:
		return nil, errors.New("enabled must be true or false")
	}
	if text := entry(Expiry); text != "" {
		expiry, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, errors.New("expiry must be a time such as 2027-01-01T00:00:00Z")
		}
		k.Expiry = expiry
	}
	return k, nil
}
