// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeLog returns the path of a log whose lines came a second apart.
func writeLog(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := new(logSet).create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		log.write(testTime.Add(time.Duration(i)*time.Second), []byte(line))
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadLog(t *testing.T) {
	path := writeLog(t, "one\n", "\n", "two ", "and more\n", "three")
	for name, tc := range map[string]struct {
		options logOptions
		want    string
	}{
		"all":         {logOptions{tail: -1}, "one\n\ntwo and more\nthree"},
		"tail":        {logOptions{tail: 2}, "and more\nthree"},
		"tail 0":      {logOptions{tail: 0}, ""},
		"long tail":   {logOptions{tail: 99}, "one\n\ntwo and more\nthree"},
		"since":       {logOptions{tail: -1, since: testTime.Add(3 * time.Second)}, "and more\nthree"},
		"limit":       {logOptions{tail: -1, limit: 6}, "one\n\nt"},
		"large limit": {logOptions{tail: -1, limit: 99}, "one\n\ntwo and more\nthree"},
		"timestamps":  {logOptions{tail: 1, timestamps: true}, "2026-11-23T12:00:04.000000000Z three"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := readLog(t.Context(), path, nil, tc.options, &out, func() {}); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLogLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := new(logSet).create(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("x", 3*maxLogLine+5) + "\nshort\n"
	log.copyFrom(strings.NewReader(want))
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := readLog(t.Context(), path, nil, logOptions{tail: -1}, &out, func() {}); err != nil || out.String() != want {
		t.Errorf("got %d bytes, %v, want %d", out.Len(), err, len(want))
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	var logs logSet
	log, err := logs.create(path)
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(readLog(t.Context(), path, logs.find(path), logOptions{tail: -1}, write, func() {}))
	}()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(read, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	for _, line := range []string{"one\n", "two\n"} {
		log.write(time.Now(), []byte(line))
		expect(line)
	}
	log.write(time.Now(), []byte("last\n"))
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(read); err != nil || string(rest) != "last\n" {
		t.Errorf("the rest: %q, %v", rest, err)
	}
	if logs.find(path) != nil {
		t.Error("a closed log is still in the set")
	}
}

func TestFollowEndsWithItsReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := new(logSet).create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- readLog(ctx, path, log, logOptions{tail: -1}, io.Discard, func() {}) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestParseLogOptions(t *testing.T) {
	q, _ := url.ParseQuery("tailLines=3&sinceSeconds=60&limitBytes=10&timestamps=true&follow=true")
	got, err := parseLogOptions(q, testTime.Time)
	if want := (logOptions{since: testTime.Add(-time.Minute), tail: 3, limit: 10, timestamps: true}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"tailLines=x", "tailLines=-1", "sinceTime=today"} {
		q, _ := url.ParseQuery(bad)
		if _, err := parseLogOptions(q, testTime.Time); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
