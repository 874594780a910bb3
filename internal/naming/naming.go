// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package naming makes every name and label value that the operator generates.
//
// All of them are functions of what they name: a name that is made twice is the same
// name, which is what lets a Pod be created twice without harm.
package naming

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"
)

// MaxLength is the length of the longest name and label value made here. A Pod's name
// becomes its host name, which DNS limits to one label.
const MaxLength = 63

const (
	alphabet        = "0123456789abcdefghijklmnopqrstuvwxyz"
	idLength        = 8
	podHashLength   = 10
	taskHashLength  = 8
	tokenHashLength = 12
)

// JobID returns the identifier of the job with this UID in BatchCompute's form: "job-"
// and 8 characters of [0-9a-z]. Two jobs have the same with a chance of 1 in 2.8e12.
func JobID(uid types.UID) string {
	return "job-" + hash(idLength, string(uid))
}

// EnvID returns the identifier of the ComputeEnv with this UID in BatchCompute's form:
// "env-" and 8 characters of [0-9a-z].
func EnvID(uid types.UID) string {
	return "env-" + hash(idLength, string(uid))
}

// templateID is BatchCompute's form of the identifier of a task template.
// Source: BatchCompute, samples of the actions on templates.
var templateID = regexp.MustCompile(`^task-tmpl-[0-9a-z]{8}$`)

// IsTemplateID reports whether a text has the form of the identifier of a TaskTemplate: "task-tmpl-" and 8 characters of
// [0-9a-z].
func IsTemplateID(text string) bool { return templateID.MatchString(text) }

// TemplateID returns the identifier of the TaskTemplate with this name and UID. It is the name, if that has the form, as
// those of CreateTaskTemplate have; else it is computed from the UID.
func TemplateID(name string, uid types.UID) string {
	if IsTemplateID(name) {
		return name
	}
	return TemplateName(string(uid))
}

// TemplateName returns a name with the form of an identifier, for a text that no other template has.
func TemplateName(text string) string { return "task-tmpl-" + hash(idLength, text) }

// NodeID returns the identifier of a node of a ComputeEnv in BatchCompute's form: "node-" and 8 characters of [0-9a-z].
// uid is that of the Pod that uses the node; for a node that is free, that of the ComputeEnv, with the node's number as
// part.
func NodeID(uid types.UID, part ...string) string {
	return "node-" + hash(idLength, append([]string{string(uid)}, part...)...)
}

// ActivityID returns the identifier of the creation of the node that the Pod with this UID uses, in BatchCompute's
// form: "act-" and 8 characters of [0-9a-z].
func ActivityID(uid types.UID) string {
	return "act-" + hash(idLength, string(uid), "create")
}

// TokenName returns the name of a BatchJob that was given a generateName and a
// clientToken: at most MaxLength bytes, the same whenever both are the same. The prefix
// is kept as it is and cut to fit, so the name is valid wherever generateName is. The
// hash at the end is over both in full: two of a million different requests get the
// same name with a chance of 1 in 10 million (62 bits).
func TokenName(generateName, token string) string {
	end := min(len(generateName), MaxLength-tokenHashLength)
	for end > 0 && end < len(generateName) && !utf8.RuneStart(generateName[end]) {
		end--
	}
	return generateName[:end] + hash(tokenHashLength, generateName, token)
}

// PodName returns the name of the Pod that runs one attempt of one instance in one run of
// its job: at most MaxLength characters, a valid DNS label, and different for every
// different job UID, task, index, attempt and run. The readable part is cut to fit; the
// hash at the end, over everything, is what tells names apart (50 bits, within one index,
// attempt and run).
func PodName(jobName string, uid types.UID, taskName string, index, attempt, run int) string {
	// A plan makes the names of all Pods of its job, so it costs little memory.
	i, a, r := strconv.Itoa(index), strconv.Itoa(attempt), strconv.Itoa(run)
	var room [MaxLength]byte
	tail := append(append(room[:0], '-'), i...)
	if attempt > 0 {
		tail = append(append(tail, "-r"...), a...)
	}
	if run > 0 {
		tail = append(append(tail, "-x"...), r...)
	}
	tail = appendHash(append(tail, '-'), podHashLength, string(uid), taskName, i, a, r)
	job, task := readable(jobName, taskName, MaxLength-len(tail))
	return job + "-" + task + string(tail)
}

// TaskLabel returns the task's name as a label value. A name that ends with - or _ is
// no label value; it gets a hash at its end that no other name of a job has by chance.
func TaskLabel(taskName string) string {
	if taskName == "" || isAlphanumeric(taskName[len(taskName)-1]) {
		return taskName
	}
	head := taskName[:min(len(taskName), MaxLength-taskHashLength)]
	return head + hash(taskHashLength, taskName)
}

// readable returns the names such that, with a - between them, they make a DNS label prefix of at most
// n characters: lower case, and - for whatever else. Each name gets half of the room, and what the other
// leaves.
func readable(jobName, taskName string, n int) (job, task string) {
	job, task = label(jobName), label(taskName)
	room := n - 1
	half := room / 2
	switch {
	case len(job)+len(task) <= room:
	case len(job) <= half:
		task = task[:room-len(job)]
	case len(task) <= room-half:
		job = job[:room-len(task)]
	default:
		job, task = job[:half], task[:room-half]
	}
	return strings.Trim(job, "-"), strings.Trim(task, "-")
}

// label maps a name to characters of a DNS label.
func label(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r < 0x80 && isAlphanumeric(byte(r)):
			return r
		}
		return '-'
	}, name)
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// hash returns n (at most 12) characters of [0-9a-z] that depend on all parts and on
// where one ends and the next begins.
func hash(n int, parts ...string) string { return string(appendHash(nil, n, parts...)) }

// appendHash appends the characters of hash to a text.
func appendHash(to []byte, n int, parts ...string) []byte {
	var room [192]byte
	text := room[:0]
	for _, p := range parts {
		text = append(binary.AppendUvarint(text, uint64(len(p))), p...)
	}
	sum := sha256.Sum256(text)
	v := binary.BigEndian.Uint64(sum[:])
	for range n {
		to = append(to, alphabet[v%36])
		v /= 36
	}
	return to
}
