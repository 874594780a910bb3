// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestCatalogEvents(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: catalogName, UID: "u", ResourceVersion: "7"}}
	recorder := events.NewFakeRecorder(2)
	n := &catalogEvents{reader: fake.NewClientBuilder().WithObjects(cm).Build(), recorder: recorder, namespace: "ns"}
	want := &corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "ns", Name: catalogName, UID: "u", ResourceVersion: "7"}
	if diff := cmp.Diff(want, n.configMap(t.Context())); diff != "" {
		t.Errorf("reference (-want +got):\n%s", diff)
	}
	n.reader = fake.NewClientBuilder().Build()
	want.UID, want.ResourceVersion = "", ""
	if diff := cmp.Diff(want, n.configMap(t.Context())); diff != "" {
		t.Errorf("reference without a ConfigMap (-want +got):\n%s", diff)
	}
	n.emit(t.Context(), errors.Join(errors.New("line 3: 100% wrong"), errors.New("line 4: wrong")))
	n.emit(t.Context(), nil)
	for _, want := range []string{
		"Warning CatalogInvalid The last good catalogue stays in use. line 3: 100% wrong; line 4: wrong",
		"Normal CatalogLoaded The new catalogue is in use",
	} {
		if got := <-recorder.Events; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	}
}

// TestCatalog breaks the catalogue of the real manager and repairs it, without a restart.
// The directory is as the kubelet makes it; the ConfigMap is there for the events.
func TestCatalog(t *testing.T) {
	c := startCluster(t)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: catalogName}}
	must(t, c.Create(t.Context(), cm))

	dir := t.TempDir()
	path := filepath.Join(dir, "catalog.yaml")
	must(t, os.Symlink(filepath.Join("..data", "catalog.yaml"), path))
	version := 0
	write := func(images string) {
		t.Helper()
		version++
		data := fmt.Sprintf("..%d", version)
		must(t, os.Mkdir(filepath.Join(dir, data), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, data, "catalog.yaml"),
			[]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nimages:\n"+images), 0o600))
		must(t, os.Symlink(data, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}

	write("  img-bd78fy2t: ''\n")
	p := c.launch(t, "--catalog", path)
	if err := p.cmd.Wait(); err == nil || !strings.Contains(p.log.String(), "line 4: images.img-bd78fy2t: must be a container image") {
		t.Errorf("the manager began with a broken catalogue: %v\n%s", err, p.log)
	}

	write("  img-bd78fy2t: busybox\n")
	p = c.startManager(t, "--catalog", path, "--metrics-secure=false")
	must(t, c.submit(t, "first", "img-bd78fy2t"))
	if err := c.submit(t, "unknown", "img-0a1b2c3d"); !apierrors.IsInvalid(err) {
		t.Errorf("an unknown image: %v", err)
	}

	write("  img-bd78fy2t: busybox\n  img-0a1b2c3d: ''\n")
	begin := time.Now()
	c.waitForEvent(t, cm, corev1.EventTypeWarning, v1alpha1.ReasonCatalogInvalid, "line 5: images.img-0a1b2c3d: must be a container image")
	t.Logf("the event was there after %s", time.Since(begin))
	must(t, c.submit(t, "second", "img-bd78fy2t"))
	if err := c.submit(t, "broken", "img-0a1b2c3d"); !apierrors.IsInvalid(err) {
		t.Errorf("an image of a broken catalogue: %v", err)
	}
	if valid := p.metric(t, "batchjob_catalog_valid"); valid != "0" {
		t.Errorf("batchjob_catalog_valid %s, want 0", valid)
	}

	// The second content in error is no repetition of the first.
	cm.Data = map[string]string{"a": "b"}
	must(t, c.Update(t.Context(), cm))
	write("  img-bd78fy2t: busybox\nimages: {}\n")
	c.waitForEvent(t, cm, corev1.EventTypeWarning, v1alpha1.ReasonCatalogInvalid, "line 5: images: given twice, first on line 3")

	write("  img-0a1b2c3d: busybox\n")
	begin = time.Now()
	eventually(t, func() error { return c.submit(t, "third", "img-0a1b2c3d") })
	t.Logf("the repaired catalogue was in use after %s", time.Since(begin))
	c.waitForEvent(t, cm, corev1.EventTypeNormal, v1alpha1.ReasonCatalogLoaded, "in use")
	if err := c.submit(t, "gone", "img-bd78fy2t"); !apierrors.IsInvalid(err) {
		t.Errorf("an image that is not there any more: %v", err)
	}
	for name, want := range map[string]string{
		"batchjob_catalog_valid": "1", `batchjob_catalog_reloads_total{result="error"}`: "2", `batchjob_catalog_reloads_total{result="ok"}`: "1",
	} {
		if got := p.metric(t, name); got != want {
			t.Errorf("%s %s, want %s", name, got, want)
		}
	}
	out, err := c.run(t, "", "-n", defaultNamespace, "describe", "configmap", catalogName)
	if err != nil || !strings.Contains(out, v1alpha1.ReasonCatalogInvalid) || !strings.Contains(out, v1alpha1.ReasonCatalogLoaded) {
		t.Errorf("kubectl describe does not show the events: %v\n%s", err, out)
	}
	if strings.Contains(p.log.String(), "Could not read the catalogue's ConfigMap") {
		t.Error("the manager may not read its ConfigMap")
	}
}

// submit creates a job that names a machine image.
func (c *cluster) submit(t *testing.T, name, imageID string) error {
	t.Helper()
	job := parse(t, strings.NewReplacer("name: good", "name: "+name, "computeEnv: {}", "computeEnv: {envData: {imageId: "+imageID+"}}").Replace(good))
	return c.Create(t.Context(), job)
}

// waitForEvent waits for an event of the object whose note has a part, and wants one only.
func (c *cluster) waitForEvent(t *testing.T, of client.Object, kind, reason, part string) {
	t.Helper()
	eventually(t, func() error {
		list := &eventsv1.EventList{}
		if err := c.List(t.Context(), list, client.InNamespace(of.GetNamespace())); err != nil {
			return err
		}
		found := 0
		for i := range list.Items {
			e := &list.Items[i]
			if e.Type == kind && e.Reason == reason && strings.Contains(e.Note, part) && e.Regarding.UID == of.GetUID() && e.Series == nil {
				found++
			}
		}
		if found != 1 {
			return fmt.Errorf("%d events %s with %q", found, reason, part)
		}
		return nil
	})
}

// metric returns the value of a series, with its labels in the name.
func (p *process) metric(t *testing.T, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + p.metrics + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return value
		}
	}
	return ""
}
