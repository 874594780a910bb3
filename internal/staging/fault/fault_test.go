// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
)

func TestText(t *testing.T) {
	err := At("inputMappings[0]", Final(Denied, "a/b\n.txt", "the store refuses access", "ask for the permission"))
	if got, want := err.Error(), `inputMappings[0]: "a/b\n.txt": the store refuses access; ask for the permission`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := At("other", err); got.Field != "inputMappings[0]" {
		t.Errorf("field %s", got.Field)
	}
	long := Quote(strings.Repeat("é", 1000))
	if len(long) > maxKey+10 || !strings.Contains(long, "…") {
		t.Errorf("%d bytes", len(long))
	}
}

func TestResult(t *testing.T) {
	if got := Result(nil); got != (agentapi.Result{Version: agentapi.Version}) {
		t.Errorf("%+v for success", got)
	}
	got := Result(Temporary(Busy, "k", strings.Repeat("é", 2000), ""))
	if got.Class != agentapi.Transient || len(got.Message) > agentapi.MaxResultMessage || !strings.HasSuffix(got.Message, "é…") {
		t.Errorf("%d bytes, %+v", len(got.Message), got)
	}
}

func TestOfFile(t *testing.T) {
	tests := map[string]struct {
		err       error
		wantKind  Kind
		wantClass agentapi.Class
	}{
		"full":       {syscall.ENOSPC, Disk, agentapi.Transient},
		"directory":  {syscall.ENOTDIR, Conflict, agentapi.Permanent},
		"long":       {syscall.ENAMETOOLONG, Name, agentapi.Permanent},
		"mount":      {syscall.EXDEV, Local, agentapi.Permanent},
		"permission": {syscall.EACCES, Local, agentapi.Permanent},
		"disk":       {syscall.EIO, Local, agentapi.Transient},
		"other":      {syscall.EINVAL, Local, agentapi.Permanent},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := OfFile("x", &fs.PathError{Op: "write", Path: "/secret/x", Err: tc.err})
			if e.Kind != tc.wantKind || e.Class != tc.wantClass || !errors.Is(e, tc.err) {
				t.Errorf("%s, %s: %v", e.Kind, e.Class, e)
			}
			if strings.Contains(e.Error(), "/secret") {
				t.Errorf("the path is in it: %v", e)
			}
		})
	}
	known := Final(Name, "x", "bad", "")
	if OfFile("y", fmt.Errorf("x: %w", known)) != known {
		t.Error("an Error was replaced")
	}
}

func TestOfNetwork(t *testing.T) {
	const secret = "X-Amz-Signature=abc"
	wrap := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://user:pw@host/key?" + secret, Err: err}
	}
	tests := map[string]struct {
		err       error
		wantKind  Kind
		wantClass agentapi.Class
		wantText  string
	}{
		"refused":    {&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, Network, agentapi.Transient, "connection refused"},
		"DNS":        {&net.OpError{Op: "dial", Err: &net.DNSError{Name: "store.test", IsNotFound: true}}, Network, agentapi.Transient, "store.test"},
		"truncated":  {io.ErrUnexpectedEOF, Truncated, agentapi.Transient, "before the answer"},
		"closed":     {errors.New("Connection closed by foreign host https://user:pw@host/key?" + secret + ". Retry again."), Truncated, agentapi.Transient, "closed"},
		"with a URL": {errors.New("bad thing at https://user:pw@host/key?" + secret), Network, agentapi.Transient, "bad thing at (an address)"},
		"other":      {x509.UnknownAuthorityError{}, Network, agentapi.Transient, "unknown authority"},
		"no TLS":     {errors.New("http: server gave HTTP response to HTTPS client"), Address, agentapi.Permanent, "does not speak TLS"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := OfNetwork("k", wrap(tc.err))
			if e.Kind != tc.wantKind || e.Class != tc.wantClass || !strings.Contains(e.Error(), tc.wantText) {
				t.Errorf("%s, %s: %v", e.Kind, e.Class, e)
			}
			if strings.Contains(e.Error(), "pw") || strings.Contains(e.Error(), secret) {
				t.Errorf("a secret is in it: %v", e)
			}
		})
	}
}
