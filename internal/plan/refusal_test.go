// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"os"
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestRefusalAdvice holds the table of refusals in docs/execution.md: each row has an advice, and each
// advice a row; and the advice survives where the API server's words are cut.
func TestRefusalAdvice(t *testing.T) {
	page, err := os.ReadFile("../../docs/execution.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| the API server says | what to do |\n")
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 2 {
			if !strings.HasPrefix(line, "|") {
				break
			}
			continue
		}
		sentence := strings.Trim(cells[0], "| `")
		advice := refusalAdvice(sentence)
		if advice == "" {
			t.Errorf("no advice for %s", sentence)
		}
		if other, ok := rows[advice]; ok {
			t.Errorf("one advice for %s and %s", sentence, other)
		}
		rows[advice] = sentence
		message := refusalMessage(Refusal{Message: `pods "film-render-17-3f9k2m1x0a" is forbidden: ` + sentence + strings.Repeat(" and so on", 50)})
		if !strings.HasPrefix(message, "InternalError.CallCvm: the cluster refused to create a Pod: "+advice+": ") || len(message) > v1alpha1.MaxMessageSize {
			t.Errorf("the message is %q", message)
		}
	}
	if len(rows) != len(advices) {
		t.Errorf("the page has %d rows, and there are %d advices", len(rows), len(advices))
	}
	if got, want := refusalMessage(Refusal{Message: "something new"}), "InternalError.CallCvm: the cluster refused to create a Pod: something new"; got != want {
		t.Errorf("the message is %q, want %q", got, want)
	}
}
