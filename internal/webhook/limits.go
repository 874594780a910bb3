// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
)

// noLimit is the limit of a namespace that may keep what it likes.
var noLimit = amount{math.MaxInt64, math.MaxInt64}

// ownLimit is a limit that a namespace has of its own.
type ownLimit struct {
	value  *int64 // nil: it has none
	broken string // the annotation, quoted, when that is no limit
}

// readLimit reads a limit off an annotation; the zero value where there is none.
func readLimit(annotations map[string]string, key string, parse func(string) (int64, error)) ownLimit {
	text, ok := annotations[key]
	if !ok || key == "" {
		return ownLimit{}
	}
	n, err := parse(text)
	if err != nil {
		return ownLimit{broken: quoted(text)}
	}
	return ownLimit{value: &n}
}

func parseCount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

// maxBytes is the most that a limit of bytes may be: 1 Pi.
const maxBytes = 1 << 50

// plainBytes are the quantities without an exponent: one can be as large as one likes, and
// take as long to compute.
var plainBytes = regexp.MustCompile(`^[0-9]{1,16}(\.[0-9]{1,6})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`)

var errNoBytes = errors.New("must be a number of bytes such as 64Mi, from 0 to 1Pi")

// ParseBytes reads a limit of bytes: a Kubernetes quantity without exponent, from 0, which means
// any number, to 1Pi. A fraction of a byte is rounded up.
func ParseBytes(text string) (int64, error) {
	if !plainBytes.MatchString(text) {
		return 0, errNoBytes
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.CmpInt64(maxBytes) > 0 {
		return 0, errNoBytes
	}
	return q.Value(), nil
}

// limits returns the limits of a namespace, and a warning for each that it was given and is
// none.
func (q *quota) limits(acc *account) (amount, answer) {
	var a answer
	one := func(own ownLimit, limit int64, annotation, must, limitText string) int64 {
		if own.broken != "" {
			a.warning = append(a.warning, fmt.Sprintf("the namespace's annotation %s must be %s, got %s; the default, %s, applies",
				annotation, must, own.broken, limitText))
		}
		if own.value != nil {
			limit = *own.value
		}
		if limit == 0 {
			return math.MaxInt64
		}
		return limit
	}
	return amount{
		one(acc.count, q.limit.objects, q.kind.annotation, "a number from 0", strconv.FormatInt(q.limit.objects, 10)),
		one(acc.bytes, q.limit.bytes, q.kind.bytesAnnotation, "a number of bytes such as 64Mi", inBytes(q.limit.bytes)),
	}, a
}

// refusal is the sentence for a namespace that is too full for more; empty if it is not.
func (q *quota) refusal(stored, more, limit amount) string {
	switch {
	case stored.objects+more.objects > limit.objects:
		return fmt.Sprintf("must be a namespace that keeps fewer than %d %s; it has %d", limit.objects, q.kind.what, stored.objects)
	case stored.bytes+more.bytes > limit.bytes:
		return fmt.Sprintf("must be a namespace whose jobs, finished ones included, take at most %s; they take %s, and this one up to %s: "+
			"delete jobs, make this one smaller, or have the namespace's annotation %s raised",
			inBytes(limit.bytes), inBytes(stored.bytes), inBytes(more.bytes), q.kind.bytesAnnotation)
	}
	return ""
}

// inBytes writes a number of bytes for people.
func inBytes(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
