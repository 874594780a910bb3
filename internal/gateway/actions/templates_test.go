// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/naming"
)

// describedTemplates are what is read of an answer of DescribeTaskTemplates.
type describedTemplates struct {
	TotalCount      int
	TaskTemplateSet []struct {
		TaskTemplateID, TaskTemplateName, TaskTemplateDescription, CreateTime string
		TaskTemplateInfo                                                      map[string]any
		Tags                                                                  []struct{ Key, Value string }
	}
}

func TestTemplates(t *testing.T) {
	w := newWorld(t)
	create := `{"TaskTemplateName": "frames", "TaskTemplateDescription": "d", "Tags": [{"Key": "k", "Value": "v"}], "TaskTemplateInfo": {"TaskName": "a",
		"MaxRetryCount": 3, "Application": {"DeliveryForm": "LOCAL", "Command": "true", "Docker": {"User": "u", "Password": "p4ss-word", "Image": "i"}}}}`
	var first, second struct{ TaskTemplateID string }
	w.do("CreateTaskTemplate", create, &first)
	var list describedTemplates
	ofFirst := `{"TaskTemplateIds": ["` + first.TaskTemplateID + `"]}`
	w.do("DescribeTaskTemplates", ofFirst, &list)
	text, err := json.Marshal(list)
	w.must(err)
	if list.TotalCount != 1 || list.TaskTemplateSet[0].TaskTemplateID != first.TaskTemplateID || list.TaskTemplateSet[0].TaskTemplateInfo["TaskName"] != "a" ||
		list.TaskTemplateSet[0].Tags[0].Value != "v" || strings.Contains(string(text), "p4ss") || strings.Contains(string(text), "SecretRef") {
		t.Errorf("the template is %s", text)
	}
	template := w.template(first.TaskTemplateID)
	if template.Name != first.TaskTemplateID {
		t.Errorf("the template is named %s and has the identifier %s", template.Name, first.TaskTemplateID)
	}
	w.ownedSecrets(template, 1)

	w.do("CreateTaskTemplate", strings.Replace(create, "frames", "other", 1), &second)
	if first == second {
		t.Error("two requests are one template")
	}
	for params, want := range map[string]int{
		`{}`: 2, `{"Limit": 1}`: 2, `{"Filters": [{"Name": "task-template-name", "Values": ["other"]}]}`: 1,
		`{"Filters": [{"Name": "tag:k", "Values": ["v"]}]}`: 2, `{"Filters": [{"Name": "tag-key", "Values": ["x"]}]}`: 0,
		`{"TaskTemplateIds": ["task-tmpl-00000000", "` + second.TaskTemplateID + `"]}`: 1,
	} {
		if w.do("DescribeTaskTemplates", params, &list); list.TotalCount != want {
			t.Errorf("%s: %d templates, want %d", params, list.TotalCount, want)
		}
	}

	// A new task replaces the old one as a whole, and its credentials are others.
	modify := `{"TaskTemplateId": "` + first.TaskTemplateID + `"`
	w.do("ModifyTaskTemplate", modify+`, "TaskTemplateDescription": "", "TaskTemplateInfo": {"TaskName": "b", "Application": {"DeliveryForm": "LOCAL", "Command": "false",
		"Docker": {"User": "u", "Password": "0ther", "Image": "i"}}}}`, nil)
	changed := w.template(first.TaskTemplateID)
	if task := changed.Spec.TaskTemplateInfo; task.TaskName != "b" || task.MaxRetryCount != nil && *task.MaxRetryCount == 3 ||
		changed.Spec.TaskTemplateName != "frames" || changed.Spec.TaskTemplateDescription != "" || len(changed.Spec.Tags) != 1 {
		t.Errorf("the changed template is %+v", changed.Spec)
	}
	w.ownedSecrets(changed, 2)
	if w.do("DescribeTaskTemplates", ofFirst, &list); list.TaskTemplateSet[0].TaskTemplateInfo["TaskName"] != "b" {
		t.Errorf("the change is not seen: %+v", list)
	}

	w.refused("DeleteTaskTemplates", `{"TaskTemplateIds": [`+quoted(second.TaskTemplateID, "task-tmpl-00000000")+`]}`, errcode.TaskTemplateNotFound)
	if w.do("DescribeTaskTemplates", `{}`, &list); list.TotalCount != 2 {
		t.Error("a template was deleted before all were found")
	}
	w.do("DeleteTaskTemplates", `{"TaskTemplateIds": [`+quoted(first.TaskTemplateID, second.TaskTemplateID, first.TaskTemplateID)+`]}`, nil)
	if w.do("DescribeTaskTemplates", `{}`, &list); list.TotalCount != 0 {
		t.Errorf("%d templates are left", list.TotalCount)
	}
	w.refused("ModifyTaskTemplate", modify+`, "TaskTemplateName": "x"}`, errcode.TaskTemplateNotFound)
}

// template returns the stored template with an identifier.
func (w *world) template(id string) *v1alpha1.TaskTemplate {
	w.t.Helper()
	var list v1alpha1.TaskTemplateList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.ns)))
	for i := range list.Items {
		if naming.TemplateID(list.Items[i].Name, list.Items[i].UID) == id {
			return &list.Items[i]
		}
	}
	w.t.Fatal("there is no template", id)
	return nil
}

// ownedSecrets checks that a template owns a number of Secrets, and that the one it names is one of them.
func (w *world) ownedSecrets(template *v1alpha1.TaskTemplate, want int) {
	w.t.Helper()
	var list corev1.SecretList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.ns)))
	n, named := 0, false
	for i := range list.Items {
		s := &list.Items[i]
		if len(s.OwnerReferences) == 1 && s.OwnerReferences[0].UID == template.UID {
			n++
			named = named || s.Name == template.Spec.TaskTemplateInfo.Application.Docker.PasswordSecretRef.Name
		}
	}
	if n != want || !named {
		w.t.Errorf("the template owns %d Secrets, want %d, and the one of its task: %v", n, want, named)
	}
}

func TestTemplatesRefused(t *testing.T) {
	w := newWorld(t)
	nobody := tenant.Identity{Namespace: w.ns, ServiceAccount: "nobody"}
	if _, err := w.as(nobody, "DescribeTaskTemplates", `{}`); !isCode(err, errcode.UnauthorizedOperation) {
		t.Errorf("an identity without rights: %v", err)
	}
	id := `"TaskTemplateId": "task-tmpl-00000000"`
	ids := make([]string, maxIDs+1)
	for i := range ids {
		ids[i] = fmt.Sprintf("task-tmpl-%08d", i)
	}
	for _, tc := range []struct {
		action, params string
		want           errcode.Code
	}{
		{"CreateTaskTemplate", `{"TaskTemplateName": "x"}`, errcode.MissingParameter},
		{"CreateTaskTemplate", `{"TaskTemplateInfo": {}}`, errcode.MissingParameter},
		{"CreateTaskTemplate", `{"TaskTemplateName": "x", "TaskTemplateInfo": {"TaskNam": "a"}}`, errcode.UnknownParameter},
		{"ModifyTaskTemplate", `{"TaskTemplateId": "tmpl-1", "TaskTemplateName": "x"}`, errcode.TaskTemplateIDMalformed},
		{"ModifyTaskTemplate", `{` + id + `}`, errcode.AtLeastOneAttribute},
		{"ModifyTaskTemplate", `{` + id + `, "TaskTemplateName": "x"}`, errcode.TaskTemplateNotFound},
		{"DeleteTaskTemplates", `{"TaskTemplateIds": []}`, errcode.MissingParameter},
		{"DeleteTaskTemplates", `{"TaskTemplateIds": ["x"]}`, errcode.TaskTemplateIDMalformed},
		{"DeleteTaskTemplates", `{"TaskTemplateIds": ["task-tmpl-00000000"]}`, errcode.TaskTemplateNotFound},
		{"DeleteTaskTemplates", `{"TaskTemplateIds": [` + quoted(ids...) + `]}`, errcode.InvalidParameterValue},
		{"DescribeTaskTemplates", `{"TaskTemplateIds": ["x"]}`, errcode.TaskTemplateIDMalformed},
		{"DescribeTaskTemplates", `{"TaskTemplateIds": ["task-tmpl-00000000"], "Filters": [{"Name": "tag-key", "Values": ["k"]}]}`, errcode.InvalidParameterCombination},
		{"DescribeTaskTemplates", `{"Limit": 101}`, errcode.InvalidParameterValue},
		{"DescribeTaskTemplates", `{"Filters": [{"Name": "zone", "Values": ["z"]}]}`, errcode.InvalidFilter},
		{"DescribeTaskTemplates", `{"Zone": "z"}`, errcode.UnknownParameter},
	} {
		w.refused(tc.action, tc.params, tc.want)
	}
}
