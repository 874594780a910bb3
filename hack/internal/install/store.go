// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of the store beside a cluster.
const (
	// StorePart is the part of the cluster that runs it.
	StorePart = "store"
	// StoreSecret is the Secret with its keys that the catalogue names; it is to be in the namespace of a job.
	StoreSecret = "store-keys"
	// StoreHosts are the hosts of cos:// paths that mean it.
	StoreHosts = "*.myqcloud.com"
	// storeRegion is the one that it takes signatures for.
	storeRegion = "us-east-1"
)

// Store is an object store that runs beside a local cluster, on an address that only this machine and the
// Pods of the cluster reach. It keeps the objects as files in the directory of the cluster.
type Store struct {
	// Endpoint is its URL.
	Endpoint string
	// ID and Key are the keys of its owner. They are new each time.
	ID, Key string
	// Rules are further entries of the catalogue's stores, in YAML's flow style. They come first.
	Rules []string
	*minio.Client
}

// buildStore starts to build the program of the store, which can take minutes the first time. The function that it
// returns waits for the end and returns the program's path.
func (t Target) buildStore(ctx context.Context) func() (string, error) {
	if !t.Store || t.Cluster != "local" || t.Node == "process" || t.Node == "auto" && os.Geteuid() != 0 {
		return func() (string, error) { return "", errors.New("no store was built, since no real node was expected") }
	}
	cmd := exec.CommandContext(ctx, "hack/tools/run.sh", "--path", "versitygw", "versitygw")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, t.Out
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	return func() (string, error) {
		if err := <-done; err != nil {
			return "", fmt.Errorf("building the store: %w", err)
		}
		return strings.TrimSpace(out.String()), nil
	}
}

// startStore runs the store as a part of the cluster. It replaces one that runs already.
func (c *Cluster) startStore(ctx context.Context, built func() (string, error)) error {
	exe, err := built()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(c.HostIP, "0"))
	if err != nil {
		return fmt.Errorf("finding a port for the store: %w", err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	objects, meta := c.storeDir("objects"), c.storeDir("meta")
	for _, dir := range []string{objects, meta} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory for the store: %w", err)
		}
	}
	s := &Store{Endpoint: "http://" + address, ID: "demo", Key: rand.Text()}
	if err := c.run(exec.CommandContext(ctx, program, "run", "--name", c.target.Name, StorePart, "--", exe,
		"--port", address, "--access", s.ID, "--secret", s.Key, "--region", storeRegion, "--quiet", "--keep-alive",
		"posix", "--sidecar", meta, objects)); err != nil {
		return err
	}
	if s.Client, err = minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(s.ID, s.Key, ""), Region: storeRegion, BucketLookup: minio.BucketLookupPath}); err != nil {
		return fmt.Errorf("making a client of the store: %w", err)
	}
	c.Store = s
	return eventually(ctx, "the store", func() error {
		answer, err := http.Get(s.Endpoint)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
}

func (c *Cluster) storeDir(name string) string {
	return filepath.Join(filepath.Dir(c.Kubeconfig), StorePart, name)
}

// catalogue are the lines of the catalogue that say what cos:// hosts mean.
func (s *Store) catalogue() string {
	if s == nil {
		return ""
	}
	var out strings.Builder
	out.WriteString("stores:\n")
	for _, rule := range append(s.Rules, s.Rule(StoreHosts, s.Endpoint)) {
		fmt.Fprintf(&out, "- %s\n", rule)
	}
	return out.String()
}

// Rule is an entry of the catalogue that has hosts mean the store at an endpoint.
func (s *Store) Rule(hosts, endpoint string) string {
	return fmt.Sprintf("{match: %q, endpoint: %q, region: %s, style: path, secretName: %s}", hosts, endpoint, storeRegion, StoreSecret)
}

// Secret is the Secret with the keys of the store for the jobs of a namespace.
func (s *Store) Secret(namespace string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: StoreSecret}, StringData: map[string]string{"secretId": s.ID, "secretKey": s.Key}}
}

// Put stores an object, in a bucket that it makes if it is not there.
func (s *Store) Put(ctx context.Context, bucket, key string, data []byte) error {
	there, err := s.BucketExists(ctx, bucket)
	if err == nil && !there {
		err = s.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: storeRegion})
		if err != nil && minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			err = nil // somebody else has made it in between
		}
	}
	if err == nil && key != "" {
		_, err = s.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
	}
	if err != nil {
		return fmt.Errorf("storing %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Get returns an object.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	o, err := s.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	data, err := io.ReadAll(o)
	if err != nil {
		return nil, fmt.Errorf("reading %s/%s: %w", bucket, key, err)
	}
	return data, nil
}
