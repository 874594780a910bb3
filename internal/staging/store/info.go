// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"batchcompute.dev/operator/internal/staging/crc"
)

// Names of the metadata that we store with objects. The time is written as rclone writes it, so that both
// understand each other.
const (
	metaTime = "Mtime"
	metaMode = "Batchcompute-Mode"
	metaCRC  = "Batchcompute-Crc64"
	metaPart = "Batchcompute-Part-Bytes"

	metaPrefix = "X-Amz-Meta-"
	// cosCRC is a header of COS. The library returns only metadata, so it is repeated as one of them.
	cosCRC     = "X-Cos-Hash-Crc64ecma"
	metaCOSCRC = "Cos-Crc64"
)

// repeatCOS is a transport that repeats COS's checksum as metadata.
type repeatCOS struct{ next http.RoundTripper }

// RoundTrip sends the request.
func (t repeatCOS) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err == nil && answer.Header.Get(cosCRC) != "" {
		answer.Header.Set(metaPrefix+metaCOSCRC, answer.Header.Get(cosCRC))
	}
	return answer, err
}

// Info is what a store says of an object.
type Info struct {
	Size int64
	ETag string
	// CRC is the CRC-64 of the contents; HasCRC says whether it is known.
	CRC    uint64
	HasCRC bool
	// PartBytes is the size of the parts that it was uploaded in, if we uploaded it in parts; else 0.
	PartBytes int64
	// Mode and Time are those of the file; 0 and the zero time if they are not known.
	Mode fs.FileMode
	Time time.Time
}

// Meta is what is stored with an object, in the fields of Info.
type Meta struct {
	Mode      fs.FileMode
	Time      time.Time
	CRC       uint64
	HasCRC    bool
	PartBytes int64
}

// user returns the metadata as the library wants it.
func (m Meta) user() map[string]string {
	out := map[string]string{}
	if !m.Time.IsZero() {
		out[metaTime] = formatTime(m.Time)
	}
	if m.Mode != 0 {
		out[metaMode] = strconv.FormatUint(uint64(m.Mode.Perm()), 8)
	}
	if m.HasCRC {
		out[metaCRC] = crc.Format(m.CRC)
	}
	if m.PartBytes > 0 {
		out[metaPart] = strconv.FormatInt(m.PartBytes, 10)
	}
	return out
}

// infoOf reads headers. What is damaged or somebody else's is left out.
func infoOf(size int64, etag string, h http.Header) Info {
	i := Info{Size: size, ETag: etag, Time: parseTime(h.Get(metaPrefix + metaTime))}
	if mode, err := strconv.ParseUint(h.Get(metaPrefix+metaMode), 8, 32); err == nil {
		i.Mode = fs.FileMode(mode) & fs.ModePerm
	}
	if part, err := strconv.ParseInt(h.Get(metaPrefix+metaPart), 10, 64); err == nil && part > 0 {
		i.PartBytes = part
	}
	if i.CRC, i.HasCRC = crc.Parse(h.Get(metaPrefix + metaCOSCRC)); !i.HasCRC {
		i.CRC, i.HasCRC = crc.Parse(h.Get(metaPrefix + metaCRC))
	}
	return i
}

// formatTime writes seconds since 1970 with nine decimals.
func formatTime(t time.Time) string {
	sec, nano := t.Unix(), int64(t.Nanosecond())
	if sec < 0 && nano > 0 {
		sec, nano = sec+1, 1e9-nano
		if sec == 0 {
			return "-0." + nine(nano)
		}
	}
	return strconv.FormatInt(sec, 10) + "." + nine(nano)
}

func nine(n int64) string { return strconv.FormatInt(1e9+n, 10)[1:] }

// parseTime reads what formatTime wrote; the zero time if s is something else.
func parseTime(s string) time.Time {
	whole, part, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(part) > 9 {
		return time.Time{}
	}
	nano, err := strconv.ParseUint((part + "000000000")[:9], 10, 32)
	if err != nil {
		return time.Time{}
	}
	if strings.HasPrefix(whole, "-") {
		return time.Unix(sec, -int64(nano))
	}
	return time.Unix(sec, int64(nano))
}
