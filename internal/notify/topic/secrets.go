// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecret bounds the value of a key. Unit: bytes.
const maxSecret = 64 << 10

// secrets reads the values of keys of the Secret, all of one version of it.
type secrets struct {
	root *os.Root
	seen hash.Hash
	// err is the first error. It names the key, and nothing of its value.
	err error
}

// openSecrets opens the directory of a Secret. Without a directory all keys are missing.
func openSecrets(dir string) (*secrets, error) {
	s := &secrets{seen: sha256.New()}
	if dir == "" {
		return s, nil
	}
	// The kubelet keeps the values in a directory of their own behind this link, and changes all at once by another link.
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if errors.Is(err, fs.ErrNotExist) {
		root, err = os.OpenRoot(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening the directory of the Secret %s: %w", SecretName, err)
	}
	s.root = root
	return s, nil
}

func (s *secrets) close() {
	if s.root != nil {
		_ = s.root.Close() // nothing was written
	}
}

// text returns the value of a key without line ends behind it, which many files have; "" for no key, and after an error.
func (s *secrets) text(key string) string {
	if key == "" || s.err != nil {
		return ""
	}
	value, err := s.read(key)
	text := strings.TrimRight(value, "\r\n")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.err = fmt.Errorf("the Secret %s in the operator's namespace has no key %s: ask an administrator to add it", SecretName, key)
	case err != nil:
		s.err = fmt.Errorf("the key %s of the Secret %s cannot be read: %w", key, SecretName, err)
	case text == "":
		s.err = fmt.Errorf("the key %s of the Secret %s is empty: ask an administrator to set it", key, SecretName)
	}
	fmt.Fprintf(s.seen, "%s %d ", key, len(text))
	s.seen.Write([]byte(text))
	return text
}

func (s *secrets) read(key string) (string, error) {
	if s.root == nil {
		return "", fs.ErrNotExist
	}
	f, err := s.root.Open(key)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	value, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(value) > maxSecret {
		err = fmt.Errorf("it must have at most %d bytes", maxSecret)
	}
	return string(value), err
}

// standardPrefix begins keys in the form of Standard Webhooks: the rest is the key in base64.
const standardPrefix = "whsec_"

// hmacKey returns the value of a key as the bytes that sign.
func (s *secrets) hmacKey(key string) []byte {
	text := s.text(key)
	if text == "" {
		return nil
	}
	encoded, ok := strings.CutPrefix(text, standardPrefix)
	if !ok {
		return []byte(text)
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("the key %s of the Secret %s must be base64 behind %s", key, SecretName, standardPrefix)
	}
	return decoded
}

// sum tells apart what was read from other values.
func (s *secrets) sum() string { return hex.EncodeToString(s.seen.Sum(nil)) }
