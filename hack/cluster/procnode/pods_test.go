// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// A terminal status gets through in the end, though the API server refuses the
// first tries; and the process is started only once.
func TestStatusIsWrittenAgain(t *testing.T) {
	p := pod("retried", "echo started; exit 3")
	p.UID = "uid-1"
	client := fake.NewClientset(p)
	refused := 0
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		refused++
		return refused <= 2, nil, errors.New("the API server is away")
	})
	n := &node{
		cfg:    Config{NodeName: "node-1", Root: t.TempDir(), Images: map[string]string{testImage: t.TempDir()}},
		client: client, ip: "127.0.0.1", log: slog.New(slog.NewTextHandler(io.Discard, nil)), starter: newStarter(),
	}
	defer n.starter.close()
	w, err := newWorker(n, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.run(ctx); close(done) }()
	waitFor(t, func() bool {
		got, err := client.Tracker().Get(corev1.SchemeGroupVersion.WithResource("pods"), "default", "retried")
		return err == nil && got.(*corev1.Pod).Status.Phase == corev1.PodFailed
	})
	cancel()
	<-done
	if end := w.main[0].State.Terminated; end == nil || end.ExitCode != 3 || w.main[0].Restarts != 0 {
		t.Errorf("container: %+v", w.main[0].record)
	}
}

func TestOwnStatusKeepsOthersConditionsOut(t *testing.T) {
	s := corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled}, {Type: corev1.PodReady}, {Type: "batch.test/x"}}}
	own := ownStatus(&s)
	others := func(c corev1.PodCondition) bool { return c.Type != corev1.PodReady }
	if own.QOSClass != "" || len(own.Conditions) != 1 || slices.ContainsFunc(own.Conditions, others) {
		t.Errorf("got %+v", own)
	}
}

func TestLockRoot(t *testing.T) {
	root := t.TempDir()
	first, err := lockRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockRoot(root); err == nil {
		t.Error("a second process node may use the state directory")
	}
	first.Close()
	second, err := lockRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}
