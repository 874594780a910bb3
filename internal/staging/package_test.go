// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// pack makes an archive of a tree.
func pack(t *testing.T, tr tree) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for name, f := range tr {
		h := &tar.Header{Name: name, Mode: int64(f.Mode.Perm()), Size: int64(len(f.Data)), ModTime: time.Unix(0, f.Time), Format: tar.FormatPAX}
		if f.Mode.IsDir() {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestPackage unpacks a package from a store and from the web, through faults.
func TestPackage(t *testing.T) {
	data := pack(t, sample)
	for name, f := range map[string]s3test.Fault{
		"none":      {},
		"reset":     {Reset: true, After: 400},
		"truncated": {Truncate: true, After: 300},
		"hang":      {Hang: true, After: 200},
		"503":       {Status: 503},
	} {
		for _, web := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, web %t", name, web), func(t *testing.T) {
				w, dst := newWorld(t), t.TempDir()
				w.agent.policy = &shortStall
				w.Set("packages/p.tgz", data, nil)
				w.faults.Plan = first(3, f)
				p := &agentapi.Package{Field: "packagePath", Destination: dst, Store: &w.store, Key: "packages/p.tgz"}
				if web {
					p.Store, p.Key, p.Source = nil, "", w.store.Endpoint+"/"+bucket+"/packages/p.tgz?token=planted-secret"
				}
				check(t, w.agent.stage(t.Context(), agentapi.Stage{Limits: small, Package: p}))
				checkTree(t, dst, sample)
			})
		}
	}
	w := newWorld(t)
	for name, source := range map[string]string{
		"missing":  w.store.Endpoint + "/" + bucket + "/none.tgz?token=planted-secret",
		"no host":  "http://user:planted-secret@127.0.0.1:1/x?token=planted-secret",
		"no URL":   "://planted-secret",
		"no bytes": w.store.Endpoint + "/" + bucket + "/empty",
	} {
		w.Set("empty", nil, nil)
		short := quick
		short.NoProgress = 10 * time.Millisecond
		w.agent.policy = &short
		p := &agentapi.Package{Field: "packagePath", Destination: t.TempDir(), Source: source}
		r := w.agent.stage(t.Context(), agentapi.Stage{Package: p})
		if r.Class == "" || strings.Contains(r.Message, "planted") || !strings.HasPrefix(r.Message, "packagePath: ") {
			t.Errorf("%s: %+v", name, r)
		}
		t.Log(r.Message)
	}
}
