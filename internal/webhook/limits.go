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

// noLimit is the limit of a namespace without quotas.
var noLimit = amount{math.MaxInt64, math.MaxInt64}

// ownLimit is a limit that an annotation of the namespace sets.
type ownLimit struct {
	value  *int64 // nil: there is none
	broken string // the annotation, quoted, if it is not valid
}

// readLimit reads a limit from an annotation; the zero value if there is none.
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

// maxBytes is the maximum of a limit of bytes: 1 Pi.
const maxBytes = 1 << 50

// plainBytes matches quantities without an exponent. One with an exponent can be very large, and
// then takes very long to compute.
var plainBytes = regexp.MustCompile(`^[0-9]{1,16}(\.[0-9]{1,6})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`)

var errNoBytes = errors.New("must be a number of bytes such as 64Mi, from 0 to 1Pi")

// ParseBytes reads a limit of bytes: a Kubernetes quantity without exponent, from 0, which means
// no limit, to 1Pi. A fraction of a byte is rounded up.
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

// limits returns the limits of a namespace, and a warning for each annotation that is not valid.
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

// refusal returns why a namespace has no capacity left for more, and what to do; empty if it has.
func (q *quota) refusal(stored, more, limit amount) string {
	switch {
	case stored.objects+more.objects > limit.objects:
		return fmt.Sprintf("the namespace keeps %d %s, and its quota is %d: %s, or raise its annotation %s",
			stored.objects, q.kind.what, limit.objects, q.kind.remedy, q.kind.annotation)
	case stored.bytes+more.bytes > limit.bytes:
		return fmt.Sprintf("the namespace's %s, take %s; this one takes up to %s more, and the quota is %s: "+
			"%s, make this one smaller, or raise the namespace's annotation %s",
			q.kind.what, inBytes(stored.bytes), inBytes(more.bytes), inBytes(limit.bytes), q.kind.remedy, q.kind.bytesAnnotation)
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
