// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/validation"
)

const convertUsage = `Usage: kubectl batchjob convert -f FILE [flags]

Turns a SubmitJob request into a BatchJob manifest: the JSON body, or its flattened
form (Job.Tasks.0.Application.Command=…), URL-encoded or one parameter a line. A
password or key in it becomes a Secret that is written before the BatchJob.

Turns a BatchJob manifest into a SubmitJob request. What is in Secrets is left out.

Flags:
`

// The forms that convert writes.
const (
	formBatchJob = "batchjob"
	formJSON     = "json"
	formForm     = "form"
	formLines    = "lines"
)

var forms = []string{formBatchJob, formJSON, formForm, formLines}

// convertCommand reads its flags and converts one file.
func convertCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("convert", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, convertUsage)
		flags.PrintDefaults()
	}
	var options convert.Options
	var file, to string
	flags.StringVar(&file, "f", "", "the `file` to convert; - is the standard input")
	flags.StringVar(&to, "to", "", "the `form` to write: batchjob, json, form or lines (default: json for a BatchJob, else batchjob)")
	flags.StringVar(&options.Name, "name", "", "the `name` of the BatchJob (default: made from the job's name and content)")
	flags.StringVar(&options.Namespace, "n", "", "the `namespace` to write into the manifests (default: none)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case file == "" || flags.NArg() > 0 || to != "" && !slices.Contains(forms, to):
		flags.Usage()
		return exitUsage
	}
	if err := convertFile(file, to, options, stdin, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// convertFile converts one file and writes the result to stdout, and what there is to
// say about it to stderr.
func convertFile(file, to string, o convert.Options, stdin io.Reader, stdout, stderr io.Writer) error {
	data, err := read(file, stdin)
	if err != nil {
		return err
	}
	request, err := decode(data, o)
	if err != nil {
		return err
	}
	fromManifest := isManifest(data)
	if to == "" {
		to = formBatchJob
		if fromManifest {
			to = formJSON
		}
	}
	out, notes, err := encode(request, to)
	if err != nil {
		return err
	}
	if _, err := stdout.Write(out); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	for _, note := range notes {
		fmt.Fprintf(stderr, "note: %s\n", note)
	}
	for _, p := range (validation.Validator{}).ValidateCreate(request.Job) {
		fmt.Fprintf(stderr, "note: the cluster would refuse this: %s\n", p.Error())
	}
	return nil
}

func read(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("reading the standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return data, nil
}

// kindLine is found in YAML manifests, and not in SubmitJob bodies.
var kindLine = regexp.MustCompile(`(?m)^(apiVersion|kind):`)

// isManifest says whether data is a Kubernetes manifest, in YAML or JSON.
func isManifest(data []byte) bool {
	var kind metav1.TypeMeta
	if json.Unmarshal(data, &kind) == nil {
		return kind.Kind != ""
	}
	return kindLine.Match(data)
}

// decode reads a SubmitJob body, or the BatchJob in a manifest.
func decode(data []byte, o convert.Options) (*convert.Request, error) {
	if !isManifest(data) {
		return convert.FromBody(data, o)
	}
	var job *v1alpha1.BatchJob
	for _, doc := range regexp.MustCompile(`(?m)^---[ \t]*$`).Split(string(data), -1) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			return nil, fmt.Errorf("reading the manifest: %w", err)
		}
		if kind.Kind != "BatchJob" || kind.APIVersion != v1alpha1.GroupVersion.String() {
			continue // a Secret beside it, say
		}
		if job != nil {
			return nil, errors.New("the manifest has more than one BatchJob")
		}
		job = &v1alpha1.BatchJob{}
		if err := yaml.UnmarshalStrict([]byte(doc), job); err != nil {
			return nil, fmt.Errorf("reading the BatchJob: %w", err)
		}
	}
	if job == nil {
		return nil, fmt.Errorf("the manifest has no BatchJob of %s", v1alpha1.GroupVersion)
	}
	return &convert.Request{Job: job}, nil
}

// encode writes a request in one of the forms, and returns what is to be known of it.
func encode(r *convert.Request, to string) ([]byte, []string, error) {
	switch to {
	case formJSON:
		body, notes := convert.ToJSON(r.Job)
		return body, notes, nil
	case formForm, formLines:
		params, notes, err := convert.ToParameters(r.Job)
		if err != nil {
			return nil, nil, err
		}
		if to == formForm {
			return []byte(convert.Form(params) + "\n"), notes, nil
		}
		lines, err := linesOf(params)
		return lines, notes, err
	default:
		return manifests(r)
	}
}

// linesOf writes one parameter a line. A value with a line end in it cannot be.
func linesOf(params []convert.Parameter) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range params {
		if strings.ContainsAny(p.Value, "\r\n") || strings.TrimSpace(p.Value) != p.Value {
			return nil, fmt.Errorf("%s has line ends or outer space, which lines cannot hold; use --to form", p.Key)
		}
		fmt.Fprintf(&b, "%s=%s\n", p.Key, p.Value)
	}
	return b.Bytes(), nil
}

// manifests writes the Secrets and then the BatchJob.
func manifests(r *convert.Request) ([]byte, []string, error) {
	// Without a status, which only the operator writes.
	job := struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              v1alpha1.BatchJobSpec `json:"spec"`
	}{r.Job.TypeMeta, r.Job.ObjectMeta, r.Job.Spec}
	var objects []any
	for i := range r.Secrets {
		objects = append(objects, &r.Secrets[i])
	}
	var out []byte
	for i, object := range append(objects, &job) {
		data, err := orderedYAML(object)
		if err != nil {
			return nil, nil, fmt.Errorf("writing the manifest: %w", err)
		}
		if i > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, data...)
	}
	var notes []string
	for i := range r.Secrets {
		notes = append(notes, "the Secret "+r.Secrets[i].Name+" holds a credential in clear")
	}
	return out, notes, nil
}
