// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/gateway/apikey"
)

// clientRole is the ClusterRole with what callers of the gateway need, as config/gateway has it.
const clientRole = "batchcompute-gateway-client"

// create makes a key and prints it.
func (k *keys) create(ctx context.Context) error {
	secret, err := k.newSecret()
	if err != nil {
		return err
	}
	id, key := secret.StringData[apikey.SecretID], secret.StringData[apikey.SecretKey]
	if err := k.client.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating the Secret of the key: %w", err)
	}
	fmt.Fprintf(k.stdout, "secretId: %s\nsecretKey: %s\n", id, key)
	fmt.Fprintf(k.stderr, "The secretKey is not shown again. Requests with the key act in namespace %s, as service account %s.\n", k.namespace, k.account)
	return k.explainRights(ctx)
}

// newSecret returns the Secret of a new key.
func (k *keys) newSecret() (*corev1.Secret, error) {
	if k.account == "" {
		return nil, errors.New("--service-account must be the name of a service account")
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.namespace, Name: k.name, Labels: map[string]string{v1alpha1.LabelAPIKey: "true"},
			Annotations: map[string]string{v1alpha1.AnnotationServiceAccount: k.account},
		},
		StringData: map[string]string{apikey.SecretID: "AKID" + rand.Text(), apikey.SecretKey: rand.Text() + rand.Text()},
	}
	if k.expires != "" {
		expiry, err := parseExpiry(k.expires, k.now)
		if err != nil {
			return nil, err
		}
		s.StringData[apikey.Expiry] = expiry.UTC().Format(time.RFC3339)
	}
	// What the gateway would ignore is not made.
	stored := s.DeepCopy()
	stored.Data = map[string][]byte{}
	for name, value := range s.StringData {
		stored.Data[name] = []byte(value)
	}
	if _, err := apikey.Parse(stored); err != nil {
		return nil, fmt.Errorf("the gateway would not accept the key: %w", err)
	}
	return s, nil
}

// maxDays is more days than any key is valid, and few enough for a time.Duration. Unit: days.
const maxDays = 36500

// parseExpiry reads a time, or how long from now: a duration of Go, or days such as 90d.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	wrong := fmt.Errorf("--expires must be a time such as 2027-01-01T00:00:00Z, or how long from now, such as 90d or 12h, got %q", text)
	expiry, err := time.Parse(time.RFC3339, text)
	if err != nil {
		var life time.Duration
		if days, ok := strings.CutSuffix(text, "d"); ok {
			n, err := strconv.Atoi(days)
			if err != nil || n > maxDays {
				return time.Time{}, wrong
			}
			life = time.Duration(n) * 24 * time.Hour
		} else if life, err = time.ParseDuration(text); err != nil {
			return time.Time{}, wrong
		}
		expiry = now.Add(life)
	}
	if !expiry.After(now) {
		return time.Time{}, fmt.Errorf("--expires must be in the future, got %q", text)
	}
	return expiry, nil
}

// explainRights prints the commands that make the service account and give it the rights of callers, where they are
// missing, or where the user may not see whether they are.
func (k *keys) explainRights(ctx context.Context) error {
	account, err := k.hasAccount(ctx)
	if err != nil {
		return err
	}
	rights, err := k.hasRights(ctx)
	if err != nil {
		return err
	}
	if account == no {
		fmt.Fprintf(k.stderr, "\nThe service account does not exist. This makes it:\n  kubectl -n %s create serviceaccount %s\n", k.namespace, k.account)
	}
	if rights != yes {
		text := "The service account may not read BatchJobs. This gives it the rights of the gateway's callers:"
		if rights == unknown {
			text = "You may not see what the service account may do. If it has no rights yet, this gives it those of the gateway's callers:"
		}
		fmt.Fprintf(k.stderr, "\n%s\n  kubectl -n %[2]s create rolebinding %[3]s --clusterrole=%[4]s --serviceaccount=%[2]s:%[3]s\n", text, k.namespace, k.account, clientRole)
	}
	if k.account != v1alpha1.DefaultAPIServiceAccount {
		fmt.Fprintf(k.stderr, "\nThe gateway may impersonate %s only, unless its ClusterRole batchcompute-gateway names %s too.\n", v1alpha1.DefaultAPIServiceAccount, k.account)
	}
	return nil
}

// answer is what can be known with the rights of the user.
type answer int

const (
	unknown answer = iota
	no
	yes
)

// hasAccount says whether the service account exists.
func (k *keys) hasAccount(ctx context.Context) (answer, error) {
	err := k.client.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: k.account}, &corev1.ServiceAccount{})
	switch {
	case err == nil:
		return yes, nil
	case apierrors.IsNotFound(err):
		return no, nil
	case apierrors.IsForbidden(err):
		return unknown, nil
	}
	return unknown, fmt.Errorf("reading the service account: %w", err)
}

// hasRights says whether the service account may read jobs, by whichever role.
func (k *keys) hasRights(ctx context.Context) (answer, error) {
	review := &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace}}
	review.Spec.User = "system:serviceaccount:" + k.namespace + ":" + k.account
	review.Spec.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + k.namespace, "system:authenticated"}
	review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: k.namespace, Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: "batchjobs",
	}
	err := k.client.Create(ctx, review)
	switch {
	case apierrors.IsForbidden(err):
		return unknown, nil
	case err != nil:
		return unknown, fmt.Errorf("asking what the service account may do: %w", err)
	case review.Status.Allowed:
		return yes, nil
	}
	return no, nil
}

// list prints the keys of the namespace, without what is secret.
func (k *keys) list(ctx context.Context) error {
	var secrets corev1.SecretList
	err := k.client.List(ctx, &secrets, client.InNamespace(k.namespace), client.MatchingLabels{v1alpha1.LabelAPIKey: "true"})
	if err != nil {
		return fmt.Errorf("listing the Secrets of keys: %w", err)
	}
	if len(secrets.Items) == 0 {
		fmt.Fprintf(k.stderr, "No keys found in namespace %s.\n", k.namespace)
		return nil
	}
	table := tabwriter.NewWriter(k.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tSECRETID\tSERVICE ACCOUNT\tSTATE\tEXPIRES\tAGE")
	for i := range secrets.Items {
		fmt.Fprintln(table, strings.Join(k.row(&secrets.Items[i]), "\t"))
	}
	return table.Flush()
}

// row is a line of the list.
func (k *keys) row(s *corev1.Secret) []string {
	age := duration.HumanDuration(k.now.Sub(s.CreationTimestamp.Time))
	key, err := apikey.Parse(s)
	if err != nil {
		return []string{s.Name, "-", "-", "invalid: " + err.Error(), "-", age}
	}
	state, expires := "active", "never"
	switch {
	case key.Disabled:
		state = "disabled"
	case !key.IsUsable(k.now):
		state = "expired"
	}
	if !key.Expiry.IsZero() {
		expires = key.Expiry.UTC().Format(time.RFC3339)
	}
	return []string{s.Name, key.SecretID, key.ServiceAccount, state, expires, age}
}

// revoke disables a key or deletes it.
func (k *keys) revoke(ctx context.Context) error {
	secret := &corev1.Secret{}
	if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: k.name}, secret); err != nil {
		return fmt.Errorf("reading the Secret of the key: %w", err)
	}
	if secret.Labels[v1alpha1.LabelAPIKey] != "true" {
		return errors.New("the Secret " + k.name + " is no key: it does not have the label " + v1alpha1.LabelAPIKey)
	}
	if k.remove {
		if err := k.client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID}); err != nil {
			return fmt.Errorf("deleting the Secret of the key: %w", err)
		}
		fmt.Fprintf(k.stdout, "key %s deleted\n", k.name)
		return nil
	}
	before := secret.DeepCopy()
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[apikey.Enabled] = []byte("false")
	if err := k.client.Patch(ctx, secret, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("disabling the key: %w", err)
	}
	fmt.Fprintf(k.stdout, "key %s disabled\n", k.name)
	return nil
}
