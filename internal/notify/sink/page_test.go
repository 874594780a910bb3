// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
)

// TestPageExamples: the examples of docs/notifications.md are what a receiver gets of one event, which is that of the golden
// files of package event.
func TestPageExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```(?:json|http)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) != 3 {
		t.Fatalf("the page has %d examples, want those of structured, binary and batchcompute", len(blocks))
	}
	for i, name := range map[int]string{0: "cloudevent", 2: "body"} {
		golden, err := os.ReadFile("../event/testdata/TASK_INSTANCE_FAILED." + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), blocks[i]); diff != "" {
			t.Errorf("the example differs from the golden file (-want +got):\n%s", diff)
		}
	}
	e := event.Event{
		Name: event.TaskInstanceFailed, Time: at, Vars: []v1alpha1.EventVar{{Name: "owner", Value: "ci"}},
		Subject: event.Subject{Namespace: "films", Object: "trailer", JobID: "job-1a2b3c4d", Run: 1, Task: "render", Index: 7, Attempt: 2},
		Details: event.Details{DisplayName: "Trailer", JobState: "RUNNING", TaskState: "RUNNING", Machine: "worker-3", ExitCode: new(int32(3)),
			Reason: "CommandFailed", Message: "The command ended with exit code 3."},
	}
	for i, format := range []Format{Structured, Binary, Vendor} {
		header, body, err := format.encode(event.Origin{Cluster: "https://cluster.example", Region: "ap-guangzhou"}, []event.Event{e})
		if err != nil {
			t.Fatal(err)
		}
		want := blocks[i]
		if format == Binary {
			headers, rest, _ := strings.Cut(want, "\n\n")
			want = rest
			if diff := cmp.Diff(parseHeader(headers), header); diff != "" {
				t.Errorf("headers (-page +sent):\n%s", diff)
			}
		}
		if diff := cmp.Diff(decoded(t, want), decoded(t, string(body))); diff != "" {
			t.Errorf("%s (-page +sent):\n%s", format, diff)
		}
	}
}

func parseHeader(lines string) http.Header {
	out := http.Header{}
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		out.Add(name, value)
	}
	return out
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", text, err))
	}
	return v
}

// TestPageAnswers: the answers that docs/notifications.md calls refusals are those.
func TestPageAnswers(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`refuses the event: ([0-9, ]+), or`).FindStringSubmatch(string(page))
	if m == nil {
		t.Fatal("the page does not say which answers refuse an event")
	}
	var want []string
	for status := 300; status < 600; status++ {
		if isFinal(status) {
			want = append(want, fmt.Sprint(status))
		}
	}
	if got := strings.Join(want, ", "); got != m[1] {
		t.Errorf("the page says %s, want %s", m[1], got)
	}
}
