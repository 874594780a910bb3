// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/podspec"
)

// metricsAPI answers metrics.k8s.io in front of the API server.
type metricsAPI struct {
	status int
	body   string
}

// metricsOf has the callers' clients reach a metrics API, and returns what is to be set for it. The answer is checked to
// be asked for as the caller.
func (w *world) metricsOf() *atomic.Pointer[metricsAPI] {
	w.t.Helper()
	transport, err := rest.TransportFor(w.Config)
	w.must(err)
	target, err := url.Parse(w.Config.Host)
	w.must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = transport
	answer := &atomic.Pointer[metricsAPI]{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/v1beta1/namespaces/"+w.ns+"/pods/") {
			proxy.ServeHTTP(rw, r)
			return
		}
		if user := r.Header.Get("Impersonate-User"); user != "system:serviceaccount:"+w.ns+":batchcompute-client" {
			w.t.Errorf("the metrics were asked for as %q", user)
		}
		a := answer.Load()
		if strings.HasPrefix(a.body, "{") {
			rw.Header().Set("Content-Type", "application/json")
		}
		rw.WriteHeader(a.status)
		_, _ = rw.Write([]byte(a.body))
	}))
	w.t.Cleanup(server.Close)
	w.backend.Tenants = tenant.NewClients(&rest.Config{Host: server.URL}, w.Scheme)
	return answer
}

func TestDescribeJobMonitorData(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	limits := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")}
	pod := &corev1.Pod{}
	pod.Namespace, pod.GenerateName = w.ns, "pod-"
	pod.Labels = map[string]string{v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "1", v1alpha1.LabelAttempt: "0"}
	pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "busybox", Resources: corev1.ResourceRequirements{Limits: limits}}}
	w.must(w.Create(t.Context(), pod))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Active: "0-2"}}})
	answer := w.metricsOf()
	w.eventually(func() error { // the API server's cache follows its store
		pods, err := (&call{Backend: w.backend, client: w.client()}).fewPods(t.Context(), labels.SelectorFromSet(pod.Labels))
		if err == nil && len(pods) == 0 {
			return errNotYet
		}
		return err
	})
	sample := fmt.Sprintf(`{"kind": "PodMetrics", "timestamp": "2027-01-02T03:04:05Z", "window": "29.6s", "containers": [
		{"name": "other", "usage": {"cpu": "1", "memory": "1Gi"}}, {"name": %q, "usage": {"cpu": "500000000n", "memory": "1048576Ki"}}]}`, podspec.ContainerName)
	body := func(metric, more string) string {
		return `{"JobId": "` + id + `", "TaskName": "a", "TaskInstanceIndex": 1, "MetricName": "` + metric + `"` + more + `}`
	}
	const noPod = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "details": {"name": "x", "kind": "pods"}}`
	for _, tc := range []struct {
		name, metric, more string
		api                metricsAPI
		want               string
	}{
		{"the processor", "CpuUsage", "", metricsAPI{200, sample}, "30 [1798859045] [25]"},
		{"the memory", "MemUsage", "", metricsAPI{200, sample}, "30 [1798859045] [25]"},
		{"within the times", "MemUsage", `, "StartTime": "2027-01-02T03:04:05Z", "EndTime": "2027-01-02T03:04:05Z"`, metricsAPI{200, sample}, "30 [1798859045] [25]"},
		{"after the times", "MemUsage", `, "EndTime": "2027-01-02T03:04:04Z"`, metricsAPI{200, sample}, "0 [] []"},
		{"before the times", "MemUsage", `, "StartTime": "2027-01-02T03:04:06Z"`, metricsAPI{200, sample}, "0 [] []"},
		{"no sample", "CpuUsage", "", metricsAPI{404, noPod}, "0 [] []"},
		{"no such metric there", "TargetDiskUsage", `, "Dimensions": [{"Name": "diskname", "Value": "vda"}]`, metricsAPI{500, ""}, "0 [] []"},
	} {
		answer.Store(&tc.api)
		var got struct {
			Period     int
			DataPoints struct {
				Timestamps []int64
				Values     []float64
			}
		}
		w.do("DescribeJobMonitorData", body(tc.metric, tc.more), &got)
		if text := fmt.Sprint(got.Period, got.DataPoints.Timestamps, got.DataPoints.Values); text != tc.want || got.DataPoints.Timestamps == nil {
			t.Errorf("%s: %s, want %s", tc.name, text, tc.want)
		}
	}
	for _, tc := range []struct {
		name, metric, more string
		api                metricsAPI
		want               errcode.Code
	}{
		{"no metrics API", "CpuUsage", "", metricsAPI{404, "404 page not found"}, errcode.ResourceUnavailable},
		{"a metrics API that is not available", "CpuUsage", "", metricsAPI{503, "service unavailable"}, errcode.ResourceUnavailable},
		{"what is no sample", "CpuUsage", "", metricsAPI{200, "{"}, errcode.InternalError},
		{"no right to read it", "CpuUsage", "", metricsAPI{403, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no"}`}, errcode.UnauthorizedOperation},
		{"an unknown metric", "GpuUsage", "", metricsAPI{200, sample}, errcode.InvalidParameterValue},
		{"a time that is none", "CpuUsage", `, "StartTime": "today"`, metricsAPI{200, sample}, errcode.InvalidParameterValue},
		{"times in the wrong order", "CpuUsage", `, "StartTime": "2027-01-02T03:04:06Z", "EndTime": "2027-01-02T03:04:05Z"`, metricsAPI{200, sample}, errcode.InvalidParameterValue},
	} {
		answer.Store(&tc.api)
		if message := w.refused("DescribeJobMonitorData", body(tc.metric, tc.more), tc.want); message == "" {
			t.Errorf("that was with %s", tc.name)
		}
	}
	for task, want := range map[string]errcode.Code{
		`"JobId": "job-1", "TaskName": "a", "TaskInstanceIndex": 0`:        errcode.JobIDMalformed,
		`"JobId": "job-00000000", "TaskName": "a", "TaskInstanceIndex": 0`: errcode.JobNotFound,
		`"JobId": "` + id + `", "TaskName": "b", "TaskInstanceIndex": 0`:   errcode.TaskNotFound,
		`"JobId": "` + id + `", "TaskName": "a", "TaskInstanceIndex": 3`:   errcode.TaskInstanceNotFound,
		`"JobId": "` + id + `", "TaskName": "a"`:                           errcode.MissingParameter,
	} {
		w.refused("DescribeJobMonitorData", "{"+task+`, "MetricName": "CpuUsage"}`, want)
	}
}
