// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sdkcall calls an API with the vendor's Go SDKs, unmodified, for tests. The SDKs are in modules of
// their own below hack/sdk, so that nothing else depends on them; a test builds the program of one and talks to
// it through pipes.
package sdkcall

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// The SDKs, by the names of their directories below hack/sdk.
const (
	// V162 is the SDK that the API's page of 2020 was written for, with its structures and methods.
	V162 = "v1.0.162"
	// Latest is the newest SDK, by its client for any action.
	Latest = "latest"
)

// The methods of signatures.
const (
	TC3        = "TC3-HMAC-SHA256"
	HmacSHA1   = "HmacSHA1"
	HmacSHA256 = "HmacSHA256"
)

// Call is one call of the API.
type Call struct {
	// Endpoint is host and port.
	Endpoint string
	// CA is who is trusted, certificates in PEM; empty: HTTP.
	CA                         string
	SecretID, SecretKey, Token string
	Region, Language           string
	SignMethod                 string
	// Unsigned leaves the payload out of the signature.
	Unsigned bool
	// Method is GET or POST.
	Method string
	Action string
	// Params are the parameters of the action as JSON; nil: none.
	Params json.RawMessage
	// Raw has V162 send Params as they are, not through its structures, which cannot hold everything.
	Raw bool
}

// Answer is what the SDK makes of an answer: Response, without its envelope, or a code.
type Answer struct {
	Response                 json.RawMessage
	Code, Message, RequestID string
}

// SDK is a running program. Its methods may be called at the same time.
type SDK struct {
	in io.Writer

	mu      sync.Mutex
	waiting map[int]chan Answer // closed when the program ends
	next    int
	ended   error // set when it has ended
}

// Start builds and starts the program of an SDK, which ends with the test.
func Start(t testing.TB, version string) *SDK {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "..", "hack", "sdk", version)
	program := filepath.Join(t.TempDir(), "sdk")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s (its module comes from the module proxy): %v\n%s", dir, err, out)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &SDK{in: in, waiting: map[int]chan Answer{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read(out)
	}()
	t.Cleanup(func() {
		_ = in.Close() // the program ends after its last answer
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program of SDK %s: %v", version, err)
		}
	})
	return s
}

// read hands out answers until the program ends.
func (s *SDK) read(out io.Reader) {
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var a struct {
			ID int
			Answer
		}
		err := dec.Decode(&a)
		s.mu.Lock()
		if err != nil {
			s.ended = fmt.Errorf("the program has ended: %w", err)
			for _, c := range s.waiting {
				close(c)
			}
			s.mu.Unlock()
			return
		}
		c := s.waiting[a.ID]
		delete(s.waiting, a.ID)
		s.mu.Unlock()
		if c != nil {
			c <- a.Answer
		}
	}
}

// Do makes a call. The error says that the program does not run any more; what the SDK reports is in Answer.Code.
func (s *SDK) Do(c Call) (Answer, error) {
	if c.Params == nil {
		c.Params = json.RawMessage("{}")
	}
	answer := make(chan Answer, 1)
	s.mu.Lock()
	if s.ended != nil {
		s.mu.Unlock()
		return Answer{}, s.ended
	}
	s.next++
	id := s.next
	s.waiting[id] = answer
	line, err := json.Marshal(struct {
		ID int
		Call
	}{id, c})
	if err == nil {
		_, err = s.in.Write(append(line, '\n'))
	}
	s.mu.Unlock()
	if err != nil {
		return Answer{}, fmt.Errorf("writing a call: %w", err)
	}
	a, open := <-answer
	if !open {
		return Answer{}, errors.New("the program has ended without an answer")
	}
	return a, nil
}
