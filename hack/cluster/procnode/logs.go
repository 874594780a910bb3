// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// serve starts the part of the kubelet's HTTP API that there is. The function it
// returns ends it.
func (n *node) serve() (func(), error) {
	cert, err := tls.LoadX509KeyPair(n.cfg.ServingCertFile, n.cfg.ServingKeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the serving certificate: %w", err)
	}
	ca, err := os.ReadFile(n.cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("reading the client CA: no certificate in %s", n.cfg.ClientCAFile)
	}
	listener, err := net.Listen("tcp", n.cfg.ListenAddr)
	if err != nil {
		return nil, fmt.Errorf("listening for the kubelet API: %w", err)
	}
	n.port = int32(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{
		Handler: n.handler(),
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		},
		ReadHeaderTimeout: callTimeout,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("The kubelet API ended", "err", err)
		}
	}()
	return func() { server.Close() }, nil
}

func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.containerLogs)
	for _, path := range []string{"/exec/", "/attach/", "/portForward/", "/run/"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the process node does not support exec, attach and port-forward", http.StatusNotImplemented)
		})
	}
	return mux
}

// containerLogs answers `kubectl logs`, through the API server.
func (n *node) containerLogs(w http.ResponseWriter, r *http.Request) {
	options, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	obj, found, err := n.informer.GetStore().GetByKey(r.PathValue("namespace") + "/" + r.PathValue("pod"))
	if err != nil || !found {
		http.Error(w, fmt.Sprintf("pod %q does not exist", r.PathValue("pod")), http.StatusNotFound)
		return
	}
	path, err := n.findLog(obj.(*corev1.Pod), r.PathValue("container"), r.URL.Query().Get("previous") == "true")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var live *logFile
	if r.URL.Query().Get("follow") == "true" {
		live = n.starter.logs.find(path)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flush := func() { _ = http.NewResponseController(w).Flush() }
	if err := readLog(r.Context(), path, live, options, w, flush); err != nil && r.Context().Err() == nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// findLog returns the file with the output of a container's last start, or of
// the one before. Its errors are the kubelet's, which kubectl shows.
func (n *node) findLog(pod *corev1.Pod, name string, previous bool) (string, error) {
	dir := filepath.Join(n.podDir(pod.UID), "containers", filepath.Base(name))
	record, err := readRecord(dir)
	if err != nil {
		reason := "ContainerCreating"
		for _, s := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
			if s.Name == name && s.State.Waiting != nil {
				reason = s.State.Waiting.Reason
			}
		}
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, reason)
	}
	start := record.Restarts
	if previous && record.State.Waiting == nil {
		start-- // while it waits for its next start, the last one is the previous
	}
	path := logPath(dir, start)
	if _, err := os.Stat(path); err != nil {
		if previous {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
		}
		return "", fmt.Errorf("container %q in pod %q has no log", name, pod.Name)
	}
	return path, nil
}

// parseLogOptions reads the query of a log request. Source: PodLogOptions.
func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{tail: -1, timestamps: q.Get("timestamps") == "true"}
	number := func(name string, set func(int64)) error {
		if q.Get(name) == "" {
			return nil
		}
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s must be a number from 0 on, got %q", name, q.Get(name))
		}
		set(n)
		return nil
	}
	err := errors.Join(
		number("tailLines", func(n int64) { o.tail = n }),
		number("limitBytes", func(n int64) { o.limit = n }),
		number("sinceSeconds", func(n int64) { o.since = now.Add(-time.Duration(n) * time.Second) }))
	if s := q.Get("sinceTime"); s != "" && err == nil {
		o.since, err = time.Parse(time.RFC3339, s)
	}
	return o, err
}
