// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package proof makes and checks the proofs that Pods were created by the operator.
//
// Anybody who may create Pods in a namespace can copy our labels, our finalizer and an owner
// reference to a job. What nobody else can make is a message authentication code over the Pod's
// namespace and name with a key that only the operator has. A Pod's name is a function of its
// job's UID, task, index, attempt and run, so a proof that was read from one Pod is good for no
// other attempt.
package proof

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MinKeyLength is the least length of a key. Unit: bytes.
const MinKeyLength = 32

// IDLength is the length of a key's identifier. Unit: characters.
const IDLength = 8

// macLength is how much of the code a proof has: 64 bits cannot be guessed by making Pods.
// Unit: bytes.
const macLength = 8

// Key makes and checks proofs. It is safe for concurrent use.
type Key struct {
	id     string
	secret []byte
}

// New returns the key that secret is. The error says that it is shorter than MinKeyLength.
func New(secret []byte) (*Key, error) {
	if len(secret) < MinKeyLength {
		return nil, fmt.Errorf("the key has %d bytes, and must have %d", len(secret), MinKeyLength)
	}
	k := &Key{secret: append([]byte(nil), secret...)}
	k.id = hex.EncodeToString(k.mac("key identifier"))[:IDLength]
	return k, nil
}

// ID returns what tells this key from others: IDLength hexadecimal characters that say
// nothing about the key.
func (k *Key) ID() string { return k.id }

// Sign returns the proof for the Pod of this namespace and name, "ID.CODE".
func (k *Key) Sign(namespace, name string) string {
	return k.id + "." + hex.EncodeToString(k.mac(namespace+"/"+name))
}

// Verify reports whether proof is what Sign returns for the Pod of this namespace and name.
func (k *Key) Verify(namespace, name, proof string) bool {
	return hmac.Equal([]byte(proof), []byte(k.Sign(namespace, name)))
}

// mac returns the code of a text. A namespace has no slash, and no text with one is the
// identifier's.
func (k *Key) mac(text string) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(text))
	return h.Sum(nil)[:macLength]
}

// IDOf returns the identifier of the key that a proof says it was made with; empty where the
// text is no proof.
func IDOf(proof string) string {
	id, code, ok := strings.Cut(proof, ".")
	if !ok || len(id) != IDLength || len(code) != 2*macLength {
		return ""
	}
	return id
}
