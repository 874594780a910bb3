// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
)

// withTopics is a validator with a catalogue that has a section notifications.
func withTopics(t *testing.T, section string) Validator {
	t.Helper()
	c, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\nnotifications:\n" + section))
	if err != nil {
		t.Fatal(err)
	}
	return Validator{Catalog: func() *catalog.Catalog { return c }, Notifications: true}
}

const filmTopics = `
  topics:
  - {name: films-done, namespaces: [films], http: {url: "https://events.example.com"}}
  - {name: alerts, http: {url: "https://events.example.com"}}
  userSinks: {allowedHosts: [hooks.example.com, "*.example.org"]}
`

func notifying(namespace, sink string, topics ...string) *v1alpha1.BatchJob {
	job := request("a")
	job.Namespace = namespace
	if sink != "" {
		job.Annotations = map[string]string{v1alpha1.AnnotationNotificationSink: sink}
	}
	for i, topic := range topics {
		event := []string{"JOB_RUNNING", "JOB_SUCCEED", "JOB_FAILED"}[i%3]
		job.Spec.Job.Notifications = append(job.Spec.Job.Notifications, v1alpha1.Notification{
			TopicName: topic, EventConfigs: []v1alpha1.EventConfig{{EventName: event}},
		})
	}
	return job
}

const ownSink = "metadata.annotations[batchcompute.dev/notification-sink]"

// TestTopics: a topic that nobody knows gets a warning or is refused, and a receiver that is not allowed is refused.
func TestTopics(t *testing.T) {
	for name, tc := range map[string]struct {
		job *v1alpha1.BatchJob
		// what the catalogue warns of, and what one that refuses unknown topics answers.
		warnings, refusals []string
	}{
		"known": {job: notifying("films", "", "films-done", "alerts")},
		"of another namespace": {
			job:      notifying("games", "", "films-done"),
			warnings: []string{"spec.job.notifications[0].topicName is no topic of the operator's catalogue, so nothing is sent to films-done; known here: alerts"},
			refusals: []string{`InvalidParameter.NotificationTopicName: spec.job.notifications[0].topicName: must be a topic of the operator's catalogue, got "films-done"; known in this namespace: alerts`},
		},
		"mistyped": {
			job:      notifying("films", "", "alerts", "flims-done"),
			warnings: []string{"spec.job.notifications[1].topicName is no topic of the operator's catalogue, so nothing is sent to flims-done (did you mean films-done?); known here: alerts, films-done"},
			refusals: []string{`InvalidParameter.NotificationTopicName: spec.job.notifications[1].topicName: must be a topic of the operator's catalogue, got "flims-done" (did you mean films-done?); known in this namespace: alerts, films-done`},
		},
		"several": {
			job:      notifying("films", "", "one", "two", "one", "alerts"),
			warnings: []string{"spec.job.notifications[0].topicName is no topic of the operator's catalogue, so nothing is sent to one and 1 more; known here: alerts, films-done"},
			refusals: []string{
				`InvalidParameter.NotificationTopicName: spec.job.notifications[0].topicName: must be a topic of the operator's catalogue, got "one"; known in this namespace: alerts, films-done`,
				`InvalidParameter.NotificationTopicName: spec.job.notifications[1].topicName: must be a topic of the operator's catalogue, got "two"; known in this namespace: alerts, films-done`,
				`InvalidParameter.NotificationTopicName: spec.job.notifications[2].topicName: must be a topic of the operator's catalogue, got "one"; known in this namespace: alerts, films-done`,
			},
		},
		"with an own receiver": {job: notifying("films", "https://hooks.example.com/x?token=1", "mine")},
		"with one in a domain": {job: notifying("films", "https://a.b.example.org", "mine")},
		"with one that is not used": {
			job:      notifying("films", "https://hooks.example.com/", "alerts"),
			warnings: []string{ownSink + " has no effect: the operator's catalogue has all topics of notifications, and goes before it"},
		},
		"with one for nothing": {
			job:      notifying("films", "https://hooks.example.com/"),
			warnings: []string{ownSink + " has no effect: there are no notifications"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			warn, refuse := withTopics(t, filmTopics), withTopics(t, "  unknownTopics: refuse"+filmTopics)
			wantProblems(t, warn.ValidateCreate(tc.job), nil)
			wantProblems(t, refuse.ValidateCreate(tc.job), tc.refusals)
			got := warn.Warnings(tc.job)
			checkWarnings(t, got)
			if diff := cmp.Diff(tc.warnings, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			refuse.Notifications = false // as in the reconciler
			wantProblems(t, refuse.ValidateCreate(tc.job), nil)
		})
	}
}

func wantProblems(t *testing.T, got []Problem, want []string) {
	t.Helper()
	var texts []string
	for _, p := range got {
		if len(p.Detail) > MaxDetail {
			t.Errorf("a detail of %d bytes", len(p.Detail))
		}
		texts = append(texts, p.Error())
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestOwnSink: a receiver that is malformed or not allowed is refused, also if nothing is sent to it, and the answer does
// not repeat its path, which may be secret.
func TestOwnSink(t *testing.T) {
	const malformed = "must be an https URL with the name of a host, without a user and a fragment, and at most 2048 bytes"
	const other = "must have a host that the operator's catalogue allows (notifications.userSinks.allowedHosts): hooks.example.com, *.example.org; got "
	for sink, want := range map[string]string{
		"http://hooks.example.com/hunter2":                            malformed,
		"hooks.example.com/hunter2":                                   malformed,
		"https://u:hunter2@hooks.example.com":                         malformed,
		"https://hooks.example.com/#hunter2":                          malformed,
		"https://[::1]/hunter2":                                       malformed,
		"https:///hunter2":                                            malformed,
		"https:hooks.example.com":                                     malformed,
		"https://hooks.example.com\t/hunter2":                         malformed,
		"https://hooks.example.com./hunter2":                          malformed,
		"https://hooks.example.com/" + strings.Repeat("hunter2", 300): malformed,
		"https://127.0.0.1/hunter2":                                   other + `"127.0.0.1"`,
		"https://example.org/hunter2":                                 other + `"example.org"`,
		"https://xexample.org/hunter2":                                other + `"xexample.org"`,
		"https://hooks.example.com:8443/hunter2":                      other + `"hooks.example.com:8443"`,
		"https://hooks.example.com.evil.io":                           other + `"hooks.example.com.evil.io"`,
		"https://hooks.example.com@evil.io":                           malformed,
	} {
		problems := withTopics(t, filmTopics).ValidateCreate(notifying("films", sink))
		wantProblems(t, problems, []string{"InvalidParameterValue: " + ownSink + ": " + want})
		env := &v1alpha1.ComputeEnv{}
		env.Annotations = map[string]string{v1alpha1.AnnotationNotificationSink: sink}
		if all := withTopics(t, filmTopics).ValidateComputeEnvCreate(env); len(all) == 0 || all[len(all)-1].Field != ownSinkField {
			t.Errorf("%s of a ComputeEnv: %v", sink, all)
		}
	}
	wantProblems(t, withTopics(t, "  region: here").ValidateCreate(notifying("films", "https://hooks.example.com")), []string{
		"InvalidParameterValue: " + ownSink + ": must not be given: the operator's catalogue lets users name no receiver of their own. " +
			"Use one of its topics, or ask an administrator to add the host to notifications.userSinks.allowedHosts",
	})
	for _, sink := range []string{"https://hooks.example.com:443/x", "https://HOOKS.example.com", "https://x.example.org?a=b"} {
		wantProblems(t, withTopics(t, filmTopics).ValidateCreate(notifying("films", sink)), nil)
	}
	wantProblems(t, Validator{Notifications: true}.ValidateCreate(notifying("films", "nonsense")), nil) // there is no catalogue
	port := withTopics(t, "  userSinks: {allowedHosts: ['*:8443']}")
	wantProblems(t, port.ValidateCreate(notifying("films", "https://any.example.com:8443")), nil)
	if len(port.ValidateCreate(notifying("films", "https://any.example.com"))) == 0 {
		t.Error("a rule with a port allows another port")
	}
}

// TestTopicsOfComputeEnv: they are as those of a job; what was admitted before may stay.
func TestTopicsOfComputeEnv(t *testing.T) {
	env, _ := readComputeEnv(t, "testdata/computeenvs/ok-everything.yaml")
	env.Namespace = "films"
	env.Spec.Notifications = []v1alpha1.Notification{{TopicName: "alert", EventConfigs: []v1alpha1.EventConfig{{EventName: "COMPUTE_ENV_CREATED"}}}}
	want := "spec.notifications[0].topicName is no topic of the operator's catalogue, so nothing is sent to alert (did you mean alerts?); known here: alerts, films-done"
	if got := withTopics(t, filmTopics).ComputeEnvWarnings(env); !slices.Contains(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	refuse := withTopics(t, "  unknownTopics: refuse"+filmTopics)
	last := func(problems []Problem) string { return problems[len(problems)-1].Error() }
	if got := refuse.ValidateComputeEnvCreate(env); len(got) == 0 || !strings.HasPrefix(last(got), "InvalidParameter.NotificationTopicName: spec.notifications[0].topicName") {
		t.Errorf("problems %v", got)
	}
	base := len(withTopics(t, filmTopics).ValidateComputeEnvCreate(env)) // of what the catalogue does not have
	if got := refuse.ValidateComputeEnvUpdate(env, env.DeepCopy()); len(got) != base {
		t.Errorf("problems of an update %v", got)
	}
	changed := env.DeepCopy()
	changed.Spec.Notifications[0].TopicName = "other"
	changed.Annotations = map[string]string{v1alpha1.AnnotationNotificationSink: "https://evil.example.com"}
	if got := refuse.ValidateComputeEnvUpdate(env, changed); len(got) != base+2 {
		t.Errorf("problems of a change %v", got)
	}
	env.Annotations = changed.Annotations
	changed.Spec.Notifications = env.Spec.Notifications
	if got := refuse.ValidateComputeEnvUpdate(env, changed); len(got) != base {
		t.Errorf("problems of an update with an old receiver %v", got)
	}
}

// TestManyTopics: texts about the longest names are bounded, and many notifications are cheap.
func TestManyTopics(t *testing.T) {
	var section strings.Builder
	section.WriteString("  unknownTopics: refuse\n  topics:\n")
	long := func(i int) string { return fmt.Sprintf("t%03d%s", i, strings.Repeat("x", 60)) }
	for i := range 900 {
		fmt.Fprintf(&section, "  - {name: %s, http: {url: 'http://h'}}\n", long(i))
	}
	names := make([]string, 5000)
	for i := range names { // none is near to a known one
		names[i] = fmt.Sprintf("u%04d%s", i, strings.Repeat("y", 59))
	}
	job, v := notifying("films", "", names...), withTopics(t, section.String())
	near := notifying("films", "", long(899)[:63])
	got := v.Warnings(near)
	checkWarnings(t, got)
	if len(got) != 1 || !strings.HasSuffix(got[0], " (did you mean "+long(899)+"?)") {
		t.Errorf("%q", got)
	}
	got = v.Warnings(job)
	checkWarnings(t, got)
	if len(got) != 1 || !strings.HasSuffix(got[0], names[0]+" and 4999 more") {
		t.Errorf("%q", got)
	}
	if problems := v.ValidateCreate(job); len(problems) != 1 || !strings.Contains(problems[0].Detail, "must be at most 20, got 5000") {
		t.Errorf("%d problems, the first one %v", len(problems), problems[0])
	}
	problems := v.ValidateCreate(notifying("films", "", names[:v1alpha1.MaxNotifications]...))
	if len(problems) != v1alpha1.MaxNotifications || !strings.Contains(problems[v1alpha1.MaxNotifications-1].Detail, names[v1alpha1.MaxNotifications-1]) {
		t.Errorf("%d problems, the last one %v", len(problems), problems[len(problems)-1])
	}
}
