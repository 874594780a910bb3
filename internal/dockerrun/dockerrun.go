// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dockerrun reads what a task gives docker run to do: the text of
// application.docker.dockerRunOption.
//
//	-u 1000:1000 -e MODE=fast --workdir /data --shm-size 1g --gpus 1
//
// The text is words as a shell splits them, and the words are options as docker reads
// them. Nothing is expanded: a text that asks a shell for more than to take its quotes
// away is refused, as is every option that has no counterpart on Kubernetes.
package dockerrun

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/sanitize"
)

// MaxText is the length of a text. Unit: bytes.
const MaxText = 4 << 10

// Bounds of the values.
const (
	maxID      = math.MaxInt32 // as the kubelet has it
	maxWorkDir = 4096          // PATH_MAX
	maxShmSize = 1 << 40       // far above any machine
	maxGPUs    = 1000
	maxShown   = 60 // bytes of a value that an error repeats
)

// Options are what a text says. The zero value says nothing.
type Options struct {
	// User and Group are the numbers of -u; nil: not given.
	User, Group *int64
	// Env are the variables of -e in their order. Names may repeat; the last value counts.
	Env []v1alpha1.EnvVar
	// WorkingDir is the absolute path of -w; empty: not given.
	WorkingDir string
	// ShmSize is the size of /dev/shm; nil: not given.
	ShmSize *resource.Quantity
	// GPUs is the number of --gpus. 0 with AllGPUs, and when not given.
	GPUs int64
	// AllGPUs says that --gpus is all.
	AllGPUs bool
}

// Parse reads a text. Of an option that is given twice the last one counts, but for -e.
// The error is a sentence for the user that begins with "must"; it has no control
// characters, and repeats nothing that may be the value of a variable.
func Parse(text string) (Options, error) {
	if len(text) > MaxText {
		return Options{}, fmt.Errorf("must be at most %d bytes, got %d", MaxText, len(text))
	}
	args, err := Split(text)
	if err != nil {
		return Options{}, err
	}
	var o Options
	fs := pflag.NewFlagSet("docker run", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.VarP(option(o.setUser), "user", "u", "")
	fs.VarP(option(o.addEnv), "env", "e", "")
	fs.VarP(option(o.setWorkingDir), "workdir", "w", "")
	fs.Var(option(o.setShmSize), "shm-size", "")
	fs.Var(option(o.setGPUs), "gpus", "")
	if err := fs.Parse(args); err != nil {
		return Options{}, explain(err)
	}
	if fs.NArg() > 0 {
		return Options{}, errors.New("must have only options and their values; quote a value that has spaces")
	}
	return o, nil
}

// option is a flag that a function takes the value of.
type option func(string) error

// Set takes the value.
func (f option) Set(s string) error { return f(s) }

// String is the default.
func (f option) String() string { return "" }

// Type is for a usage text, which there is none of.
func (f option) Type() string { return "value" }

// explain makes a sentence of what pflag says; its own words repeat values.
func explain(err error) error {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var badValue *pflag.InvalidValueError
	switch {
	case errors.As(err, &badValue):
		return badValue.Unwrap()
	case errors.As(err, &noValue):
		return fmt.Errorf("must have a value after --%s", noValue.GetFlag().Name)
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return notAllowed("-" + unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return notAllowed("--" + unknown.GetSpecifiedName())
	case errors.Is(err, pflag.ErrHelp):
		return notAllowed("--help")
	default:
		return errors.New("must be -u, -e, -w, --shm-size or --gpus, each with its value")
	}
}

func notAllowed(name string) error {
	if strings.Trim(name, "-abcdefghijklmnopqrstuvwxyz") != "" || len(name) > maxShown {
		name = shown(name)
	}
	return fmt.Errorf("must be -u, -e, -w, --shm-size or --gpus, got %s", name)
}

// shown is a text as an error repeats it: in quotes, and cut.
func shown(s string) string {
	return sanitize.Truncate(strconv.QuoteToASCII(s), maxShown)
}

// got ends a sentence about a value that is wrong. A value with = in it may be that of a
// variable which stands in the wrong place.
func got(s string) string {
	if strings.Contains(s, "=") {
		return ""
	}
	return ", got " + shown(s)
}

func (o *Options) setUser(s string) error {
	user, group, hasGroup := strings.Cut(s, ":")
	uid, ok := id(user)
	var gid *int64
	if ok && hasGroup {
		gid, ok = id(group)
	}
	if !ok {
		return errors.New("must have a user or user:group after -u, as root or numbers up to 2147483647" + got(s))
	}
	o.User, o.Group = uid, gid
	return nil
}

// id reads a number of a user or a group.
func id(s string) (*int64, bool) {
	if s == "root" {
		return new(int64), true
	}
	n, err := strconv.ParseUint(s, 10, 31)
	v := int64(n)
	return &v, err == nil && v <= maxID && s[0] != '+'
}

// addEnv takes NAME=VALUE. docker takes NAME alone for the value of the host's variable,
// and a node has none for us.
func (o *Options) addEnv(s string) error {
	name, value, ok := strings.Cut(s, "=")
	switch {
	case !ok:
		return errors.New("must have a name, = and a value after -e")
	case len(utilvalidation.IsCIdentifier(name)) > 0:
		return errors.New("must have a name of letters, digits and _ after -e, not beginning with a digit")
	case strings.HasPrefix(name, v1alpha1.EnvReservedPrefix):
		return errors.New("must not have a name after -e that begins with " + v1alpha1.EnvReservedPrefix + ", which is reserved")
	}
	o.Env = append(o.Env, v1alpha1.EnvVar{Name: name, Value: value})
	return nil
}

func (o *Options) setWorkingDir(s string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if !path.IsAbs(s) || len(s) > maxWorkDir || strings.ContainsFunc(s, bad) {
		return errors.New("must have an absolute path without control characters after -w, such as /data" + got(s))
	}
	o.WorkingDir = s
	return nil
}

// setShmSize takes a number with a unit of docker's or none: b, k, m or g.
func (o *Options) setShmSize(s string) error {
	digits := strings.TrimRight(s, "bkmgBKMG")
	shift, known := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[strings.ToLower(s[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || !known || n == 0 || n > maxShmSize>>shift || digits[0] == '+' {
		return errors.New("must have a whole number with b, k, m or g after --shm-size, from 1 byte to 1024g" + got(s))
	}
	o.ShmSize = resource.NewQuantity(int64(n<<shift), resource.BinarySI)
	return nil
}

func (o *Options) setGPUs(s string) error {
	if s == "all" {
		o.GPUs, o.AllGPUs = 0, true
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > maxGPUs || s[0] == '+' {
		return fmt.Errorf("must have a number up to %d or all after --gpus%s", maxGPUs, got(s))
	}
	o.GPUs, o.AllGPUs = int64(n), false
	return nil
}
