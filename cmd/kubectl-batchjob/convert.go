// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/validation"
)

const convertUsage = `Usage: kubectl batchjob convert -f FILE [flags]

Turns a SubmitJob or CreateComputeEnv request into a manifest of a BatchJob or a
ComputeEnv: the JSON body; its flattened form (Job.Tasks.0.Application.Command=…),
URL-encoded or one parameter a line; or a command of the vendor's command line tool.
HTTP headers may stand before a body.
A password or key in it becomes a Secret that is written before the object.

What the cluster would refuse is an error, and nothing is written: else the Secret
would be created and stay. What only the cluster knows (quota, permission, its
catalogue unless --catalog gives it) is found out with kubectl apply --dry-run=server.

Turns such a manifest into a request. What is in Secrets is left out.

Flags:
`

// conversion is what the flags of convert say.
type conversion struct {
	convert.Options
	file, to, catalog string
	validate          bool
}

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
	var c conversion
	flags.StringVar(&c.file, "f", "", "the `file` to convert; - is the standard input")
	flags.StringVar(&c.to, "to", "", "the `form` to write: batchjob (any manifest), json, form or lines (default: json for a manifest, else batchjob)")
	flags.StringVar(&c.Name, "name", "", "the `name` of the object (default: made from the name in the body and its content)")
	flags.StringVar(&c.Namespace, "n", "", "the `namespace` to write into the manifests (default: none)")
	flags.StringVar(&c.catalog, "catalog", "", "the `file` with the cluster's catalogue, to check images and machine types against (default: no check)")
	flags.BoolVar(&c.validate, "validate", true, "write no manifest that the cluster would refuse; with false, only say so")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case c.file == "" || flags.NArg() > 0 || c.to != "" && !slices.Contains(forms, c.to):
		flags.Usage()
		return exitUsage
	}
	if err := c.run(stdin, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// run converts one file and writes the result to stdout, and what there is to say about it
// to stderr.
func (c *conversion) run(stdin io.Reader, stdout, stderr io.Writer) error {
	data, err := read(c.file, stdin)
	if err != nil {
		return err
	}
	request, err := decode(data, c.Options)
	if err != nil {
		return err
	}
	for _, note := range request.Notes {
		fmt.Fprintf(stderr, "note: %s\n", note)
	}
	problems, err := c.problems(request)
	if err != nil {
		return err
	}
	to := c.to
	if to == "" {
		to = formBatchJob
		if isManifest(data) {
			to = formJSON
		}
	}
	if to == formBatchJob && c.validate && len(problems) > 0 {
		return refused(problems)
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
	for _, p := range problems {
		fmt.Fprintf(stderr, "note: the cluster would refuse this: %s\n", p.Error())
	}
	return nil
}

// refused is the error of an object that the cluster would refuse.
type refused []validation.Problem

// Error returns the problems, one a line.
func (r refused) Error() string {
	lines := make([]string, len(r))
	for i, p := range r {
		lines[i] = p.Error()
	}
	return "nothing was written, because the cluster would refuse this:\n" + strings.Join(lines, "\n")
}

// problems returns what the cluster would refuse a request for, as far as can be known here.
func (c *conversion) problems(r *convert.Request) ([]validation.Problem, error) {
	var v validation.Validator
	if c.catalog != "" {
		data, err := os.ReadFile(c.catalog)
		if err != nil {
			return nil, fmt.Errorf("reading the catalog: %w", err)
		}
		offers, err := catalog.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("reading the catalog %s: %w", c.catalog, err)
		}
		v.Catalog = func() *catalog.Catalog { return offers }
	}
	if r.Env != nil {
		return v.ValidateComputeEnvCreate(r.Env), nil
	}
	return v.ValidateCreate(r.Job), nil
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

// kindLine is found in YAML manifests, and not in bodies of the API.
var kindLine = regexp.MustCompile(`(?m)^(apiVersion|kind):`)

// isManifest says whether data is a Kubernetes manifest, in YAML or JSON.
func isManifest(data []byte) bool {
	var kind metav1.TypeMeta
	if json.Unmarshal(data, &kind) == nil {
		return kind.Kind != ""
	}
	return kindLine.Match(data)
}

// decode reads a body, or the BatchJob or ComputeEnv in a manifest.
func decode(data []byte, o convert.Options) (*convert.Request, error) {
	if !isManifest(data) {
		return convert.FromBody(data, o)
	}
	var request *convert.Request
	for _, doc := range regexp.MustCompile(`(?m)^---[ \t]*$`).Split(string(data), -1) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			return nil, fmt.Errorf("reading the manifest: %w", err)
		}
		next := &convert.Request{}
		var object any
		switch {
		case kind.APIVersion != v1alpha1.GroupVersion.String():
		case kind.Kind == "BatchJob":
			next.Job = &v1alpha1.BatchJob{}
			object = next.Job
		case kind.Kind == "ComputeEnv":
			next.Env = &v1alpha1.ComputeEnv{}
			object = next.Env
		}
		if object == nil {
			continue // a Secret beside it, say
		}
		if request != nil {
			return nil, errors.New("the manifest has more than one BatchJob or ComputeEnv")
		}
		request = next
		if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
			return nil, fmt.Errorf("reading the %s: %w", kind.Kind, err)
		}
	}
	if request == nil {
		return nil, fmt.Errorf("the manifest has no BatchJob and no ComputeEnv of %s", v1alpha1.GroupVersion)
	}
	return request, nil
}

// encode writes a request in one of the forms, and returns what is to be known of it.
func encode(r *convert.Request, to string) ([]byte, []string, error) {
	switch to {
	case formJSON:
		body, notes := convert.ToJSON(r)
		return body, notes, nil
	case formForm, formLines:
		params, notes, err := convert.ToParameters(r)
		if err != nil {
			return nil, nil, err
		}
		if to == formForm {
			return []byte(convert.Form(params) + "\n"), notes, nil
		}
		lines, err := convert.Lines(params)
		return lines, notes, err
	default:
		return manifests(r)
	}
}

// manifests writes the Secrets and then the object that refers to them.
func manifests(r *convert.Request) ([]byte, []string, error) {
	// Without a status, which only the operator writes.
	var main struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              any `json:"spec"`
	}
	if r.Env != nil {
		main.TypeMeta, main.ObjectMeta, main.Spec = r.Env.TypeMeta, r.Env.ObjectMeta, r.Env.Spec
	} else {
		main.TypeMeta, main.ObjectMeta, main.Spec = r.Job.TypeMeta, r.Job.ObjectMeta, r.Job.Spec
	}
	var objects []any
	for i := range r.Secrets {
		objects = append(objects, &r.Secrets[i])
	}
	var out []byte
	for i, object := range append(objects, &main) {
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
		notes = append(notes, "the Secret "+r.Secrets[i].Name+" contains a credential in plain text; keep the file private")
	}
	return out, notes, nil
}
