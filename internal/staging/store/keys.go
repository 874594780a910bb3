// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
)

// keySource says in messages whose key a store is asked with, and where it can be corrected.
type keySource struct{ agentapi.Store }

// name is what the key is called.
func (k keySource) name() string {
	switch {
	case k.Identity != "":
		return "the key of the identity service"
	case k.KeyField != "":
		return "the key of " + k.KeyField
	}
	return "the key of the operator's catalogue"
}

// secret is the Secret that has the key, and who names it.
func (k keySource) secret() string {
	if k.KeySecret == "" {
		return "the Secret"
	}
	return "the Secret " + fault.Quote(k.KeySecret) + ", which " + cmp.Or(k.KeyField, "the operator's catalogue") + " names"
}

// correct says how to correct a wrong key.
func (k keySource) correct() string {
	switch {
	case k.Identity != "":
		return "check the service and its role in the operator's catalogue"
	case k.KeyField != "":
		return "correct secretId in " + k.KeyField + ", or " + agentapi.SecretKeyFile + " in the Secret " + fault.Quote(k.KeySecret)
	}
	return "correct " + agentapi.SecretIDFile + " and " + agentapi.SecretKeyFile + " in " + k.secret()
}

// renew says how to replace a key that has expired.
func (k keySource) renew() string {
	switch {
	case k.Identity != "":
		return "check how long the keys of the service are valid"
	case k.KeyField != "":
		return "give a key that does not expire: secretId in " + k.KeyField + ", and " + agentapi.SecretKeyFile + " in the Secret " + fault.Quote(k.KeySecret)
	}
	return "store a new " + agentapi.TokenFile + ", with its " + agentapi.SecretIDFile + " and " + agentapi.SecretKeyFile + ", in " + k.secret()
}

// rotated says what to look at where the store refuses a key that it accepted before.
func (k keySource) rotated() string {
	if k.Identity != "" {
		return k.correct()
	}
	return "check whether it was replaced, and " + k.secret() + " has the new one"
}

// denied explains that a request is not allowed; what says what may not be done.
func (k keySource) denied(key, what string) *fault.Error {
	if k.Credentials == "" {
		return fault.Final(fault.Denied, key, "without a key the store does not allow "+what, "give a key in authentications")
	}
	return fault.Final(fault.Denied, key, k.name()+" does not allow "+what, "give it the permission, or use another key")
}
