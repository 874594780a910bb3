// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault has the error that a transfer ends with: what failed, at which field and object, whether it
// can be expected to pass, and what to do. Its text has no secrets, no header, and of URLs neither user nor
// query.
package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"batchcompute.dev/operator/internal/agentapi"
)

// Kind tells failures apart.
type Kind string

// The kinds.
const (
	// Network: the store was not reached, or the connection broke.
	Network Kind = "Network"
	// Certificate: the store's certificate is not trusted.
	Certificate Kind = "Certificate"
	// Busy: the store answered that it cannot serve the request now.
	Busy Kind = "Busy"
	// Stalled: no byte arrived for the time that is allowed.
	Stalled Kind = "Stalled"
	// Truncated: an answer ended before its declared length.
	Truncated Kind = "Truncated"
	// Changed: an object or a file changed while it was read.
	Changed Kind = "Changed"
	// Corrupt: the checksum differs.
	Corrupt Kind = "Corrupt"
	// Credentials: the store does not know the key, the signature is wrong, or no key could be read.
	Credentials Kind = "Credentials"
	// Expired: the token has expired.
	Expired Kind = "Expired"
	// Denied: the key is known and may not do this.
	Denied Kind = "Denied"
	// NoBucket and NoObject: it does not exist.
	NoBucket Kind = "NoBucket"
	NoObject Kind = "NoObject"
	// Address: the bucket is in another region or has another address.
	Address Kind = "Address"
	// Refused: the store refuses the request for another reason.
	Refused Kind = "Refused"
	// Name: a key or a path cannot be a file or an object.
	Name Kind = "Name"
	// Conflict: something has to be a file and a directory.
	Conflict Kind = "Conflict"
	// Limit: a limit is exceeded. Disk: the disk is full.
	Limit Kind = "Limit"
	Disk  Kind = "Disk"
	// Archive: an archive is damaged, or has something that is not unpacked.
	Archive Kind = "Archive"
	// Local: a local file cannot be read or written.
	Local Kind = "Local"
	// Stopped: the agent was told to stop.
	Stopped Kind = "Stopped"
)

// Error is a failed transfer.
type Error struct {
	Kind  Kind
	Class agentapi.Class
	// Field is the field of the job, Key the object or the path; both may be empty.
	Field, Key string
	// Reason is what happened, and Advice what to do, both without a full stop.
	Reason, Advice string
	// Err is the cause. It is for errors.Is, and not part of the text.
	Err error
}

// maxKey bounds a key in a text, so that reason and advice stay in it. Unit: bytes.
const maxKey = 300

// Error returns the text.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	if e.Key != "" {
		b.WriteString(Quote(e.Key) + ": ")
	}
	b.WriteString(e.Reason)
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Quote returns a key between quotes, in printable characters, and shortened in the middle if it is long.
func Quote(key string) string {
	if len(key) > maxKey {
		key = strings.ToValidUTF8(key[:maxKey/2], "") + "…" + strings.ToValidUTF8(key[len(key)-maxKey/2:], "")
	}
	return strconv.Quote(key)
}

// Temporary returns a transient error.
func Temporary(kind Kind, key, reason, advice string) *Error {
	return &Error{Kind: kind, Class: agentapi.Transient, Key: key, Reason: reason, Advice: advice}
}

// Final returns a permanent error.
func Final(kind Kind, key, reason, advice string) *Error {
	return &Error{Kind: kind, Class: agentapi.Permanent, Key: key, Reason: reason, Advice: advice}
}

// Because sets the cause, and returns e.
func (e *Error) Because(err error) *Error {
	e.Err = err
	return e
}

// At returns err with a field, if it has none. Another error becomes one of kind Local.
func At(field string, err error) *Error {
	e := *As(err)
	if e.Field == "" {
		e.Field = field
	}
	return &e
}

// As returns err as an Error. One that is none becomes one of a local file.
func As(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return OfFile("", err)
}

// MoreDisk is what to do where a disk is full: a Pod that requests more gets a node with more.
const MoreDisk = "ask for more disk by systemDisk.diskSize, or by ephemeral-storage in kubernetes.resources.requests"

// TooLarge returns the error of data that have more than n bytes, which is the limit of field; an empty field is a
// limit of the agent's own. what is the data, with their verb.
func TooLarge(key, what string, n int64, field string) *Error {
	reason := what + " more than " + FormatBytes(n)
	if field == "" {
		return Final(Limit, key, reason, "use less, or set a limit of your own by systemDisk.diskSize, or by ephemeral-storage in kubernetes.resources.limits")
	}
	return Final(Limit, key, reason+", the limit of "+field, "raise it, or use less")
}

// FormatBytes returns a number of bytes in a unit that people read.
func FormatBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/(1<<10), 0
	for f >= 1<<10 {
		f, unit = f/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}

// Is tells whether err is of a kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// OfFile explains an error of a local file.
func OfFile(name string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Temporary(Stopped, name, "the transfer was stopped", "").Because(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Temporary(Disk, name, "the disk of the cluster node is full", MoreDisk).Because(err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTEMPTY):
		return Final(Conflict, name, "there is a file where a directory has to be, or the other way round", "rename one of them").Because(err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return Final(Name, name, "the name is too long for the file system", "shorten it").Because(err)
	case errors.Is(err, syscall.EXDEV):
		return Final(Local, name, "another file system is mounted inside the directory", "map to directories that do not contain each other").Because(err)
	case errors.Is(err, fs.ErrPermission):
		return Final(Local, name, "permission denied", "check the owner and the mode").Because(err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.ENOTCONN):
		return Temporary(Local, name, "the disk or the server of the file system has failed: "+plain(err), "").Because(err)
	}
	return Final(Local, name, plain(err), "").Because(err)
}

// plain returns the innermost text of an error of a file: what happened, without path and operation.
func plain(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// OfNetwork explains an error of a connection, without the URL that net/http puts into it.
func OfNetwork(key string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return Final(Certificate, key, "the server's certificate is not trusted: "+e.Err.Error(), "give the certificate of its authority in the catalogue, or correct the address").Because(err)
	}
	if strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return Final(Address, key, "the server does not speak TLS", "use http:// in the address").Because(err)
	}
	advice := "check that the server runs and can be reached from the Pod"
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return Temporary(Network, key, fmt.Sprintf("the host %s was not found", Quote(e.Name)), advice).Because(err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "closed by foreign host") {
		return Temporary(Truncated, key, "the server closed the connection before the answer was complete", advice).Because(err)
	}
	if e, ok := errors.AsType[*net.AddrError](err); ok {
		return Final(Address, key, "the address "+Quote(e.Addr)+" cannot be used: "+e.Err, "correct it").Because(err)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		where := ""
		if e.Addr != nil {
			where = " " + e.Addr.String()
		}
		return Temporary(Network, key, e.Op+where+": "+e.Err.Error(), advice).Because(err)
	}
	return Temporary(Network, key, withoutURL(err.Error()), advice).Because(err)
}

// withoutURL cuts a text at the first URL.
func withoutURL(text string) string {
	if i := strings.Index(text, "://"); i >= 0 {
		text = strings.TrimRight(text[:strings.LastIndexAny(text[:i], " \"'")+1], " \"'") + " (an address)"
	}
	return text
}

// Result returns the error's part of a Result; the zero value for nil.
func Result(err error) agentapi.Result {
	r := agentapi.Result{Version: agentapi.Version}
	if err != nil {
		e := As(err)
		r.Class, r.Message = e.Class, shorten(strings.ToValidUTF8(e.Error(), "\uFFFD"), agentapi.MaxResultMessage)
	}
	return r
}

// shorten cuts a text to at most n bytes, between characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
