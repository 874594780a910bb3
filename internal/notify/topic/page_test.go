// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"batchcompute.dev/operator/internal/notify/sink"
)

var (
	yamlBlock = regexp.MustCompile("(?s)```yaml\n(notifications:\n.*?)```")
	keyField  = regexp.MustCompile(`([A-Za-z]+Key): ([A-Za-z0-9._-]+)`)
	nameField = regexp.MustCompile(`name: ([A-Za-z0-9-]+)`)
)

// TestPage: the examples of docs/notifications.md are valid, and all their topics can be opened.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, ca, _ := server(t, nil)
	kinds := map[string]bool{}
	for _, block := range yamlBlock.FindAllStringSubmatch(string(page), -1) {
		f := newFixture(t, strings.TrimPrefix(block[1], "notifications:\n"))
		f.newHTTP = func(c sink.Config) (openSink, error) { return sink.NewHTTP(c, time.Now) }
		keys := map[string]string{}
		for _, m := range keyField.FindAllStringSubmatch(block[1], -1) {
			keys[m[2]] = secretOf(t, m[1], ca)
		}
		f.secret(keys)
		for _, m := range nameField.FindAllStringSubmatch(block[1], -1) {
			topic := f.open("films", m[1], "")
			kind, _, _ := strings.Cut(topic.Key, "-")
			kinds[kind] = true
			topic.Release()
		}
	}
	if len(kinds) != 3 {
		t.Errorf("there are examples only of %v", kinds)
	}
}

// secretOf returns a value for a key of the field.
func secretOf(t *testing.T, field, ca string) string {
	t.Helper()
	switch field {
	case "caKey":
		return ca
	case "credentialsKey":
		user, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		return string(seed)
	}
	return "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
}
