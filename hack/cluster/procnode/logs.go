// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

const followEvery = 100 * time.Millisecond

// listen opens the kubelet API's port, to holders of a certificate of the CA.
func (n *node) listen() (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(n.cfg.ServingCertFile, n.cfg.ServingKeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the serving certificate: %w", err)
	}
	clients, err := certutil.NewPool(n.cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client CA: %w", err)
	}
	listener, err := tls.Listen("tcp", n.cfg.ListenAddr, &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		return nil, fmt.Errorf("listening for the kubelet API: %w", err)
	}
	n.port = int32(listener.Addr().(*net.TCPAddr).Port)
	return listener, nil
}

// handler is all that there is of the kubelet's HTTP API.
func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if err := n.writeLog(w, r); err != nil && r.Context().Err() == nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return mux
}

// writeLog answers `kubectl logs`, which shows its errors.
func (n *node) writeLog(w http.ResponseWriter, r *http.Request) error {
	p := n.findPod(r.PathValue("namespace"), r.PathValue("pod"))
	if p == nil {
		return fmt.Errorf("pod %q does not exist", r.PathValue("pod"))
	}
	c, ok := p.container(r.PathValue("container"))
	if !ok {
		return fmt.Errorf("container %q not found in pod %q", r.PathValue("container"), p.obj.Name)
	}
	file, err := os.Open(p.logPath(c.Name))
	if err != nil {
		return fmt.Errorf("container %q in pod %q is waiting to start, or could not be started", c.Name, p.obj.Name)
	}
	defer file.Close()
	if tail := r.URL.Query().Get("tailLines"); tail != "" {
		if err := writeTail(w, file, tail); err != nil {
			return err
		}
	}
	for {
		c, _ := p.container(c.Name) // looked at before reading, so that nothing is missed
		if _, err := io.Copy(w, file); err != nil {
			return err
		}
		if c.State.Running == nil || r.URL.Query().Get("follow") != "true" {
			return nil
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		select {
		case <-time.After(followEvery):
		case <-r.Context().Done():
			return nil
		}
	}
}

// writeTail writes the last lines of file and leaves it at its end.
func writeTail(w io.Writer, file io.Reader, lines string) error {
	count, err := strconv.Atoi(lines)
	if err != nil || count < 0 {
		return errors.New("tailLines must be a number from 0 on")
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	all := slices.Collect(bytes.Lines(data))
	_, err = w.Write(bytes.Join(all[max(0, len(all)-count):], nil))
	return err
}
