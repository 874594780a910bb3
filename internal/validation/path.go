// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"path"
	"strings"
	"unicode"

	"batchcompute.dev/operator/internal/errcode"
)

// maxPath is the length of a path, remote or local: Linux' PATH_MAX. Unit: bytes.
const maxPath = 4096

// The schemes that a kind of field takes. Source: BatchCompute, Entering COS & CFS
// Paths, Task Template Management, Running Remote Package.
var (
	inputSchemes   = []string{"cos", "cfs", "nfs"}
	windowsSchemes = []string{"cfs", "nfs"} // COS is mounted on Linux only
	outputSchemes  = []string{"cos"}
	packageSchemes = []string{"cos", "http", "https"}
)

// packageSuffixes are the kinds of archive that a package may be.
var packageSuffixes = []string{".tgz", ".tar.gz"}

// fault is what is wrong with a path. The zero value is: nothing.
type fault struct {
	code   errcode.Code
	detail string
}

// remoteDirectoryFault checks a remote directory:
//
//	scheme://host/[dir/]...
//
// with one of the given schemes. The host is labels of letters, digits and hyphens;
// cfs and nfs take a ":" right behind it. The path begins and ends with a slash and
// has no empty segment, no "." and no "..", no white space, nothing that does not
// print, no "?", "#" and "\", and no percent sign before an escaped control character,
// dot or slash. A user name is no part of it.
func remoteDirectoryFault(value string, schemes []string) fault {
	scheme, host, dir, f := splitRemote(value, schemes)
	if f.code != "" {
		return f
	}
	if scheme != "cos" {
		host = strings.TrimSuffix(host, ":")
	}
	switch {
	case !isHost(host):
		return badRemote(value, "must have a valid host after %s://", scheme)
	case !strings.HasSuffix(dir, "/"):
		return badRemote(value, "must be a directory and end with /")
	case dir == "/":
		return fault{}
	}
	return segmentsFault(value, dir[1:len(dir)-1])
}

// remotePackageFault checks a remote archive:
//
//	scheme://host[:port]/[dir/]...name.tgz
//
// with a port for http and https only; the rest is as for a directory.
func remotePackageFault(value string) fault {
	scheme, host, file, f := splitRemote(value, packageSchemes)
	if f.code != "" {
		return f
	}
	if scheme != "cos" {
		if name, port, ok := strings.Cut(host, ":"); ok && isPort(port) {
			host = name
		}
	}
	if !isHost(host) {
		return badRemote(value, "must have a valid host after %s://", scheme)
	}
	for _, suffix := range packageSuffixes {
		if name, ok := strings.CutSuffix(file, suffix); ok && !strings.HasSuffix(name, "/") {
			return segmentsFault(value, file[1:])
		}
	}
	return badRemote(value, "must be an archive that ends with %s", either(packageSuffixes))
}

// splitRemote splits scheme://host/path; path begins with the slash, and is empty when
// there is none.
func splitRemote(value string, schemes []string) (scheme, host, rest string, f fault) {
	scheme, host, ok := strings.Cut(value, "://")
	if !ok || !contains(schemes, scheme) {
		return "", "", "", fault{errcode.RemoteStorageSchemeType,
			"must begin with " + either(prefixes(schemes)) + ", got " + quote(redact(value))}
	}
	if len(value) > maxPath {
		return "", "", "", badRemote(value, "must be at most %d bytes", maxPath)
	}
	if i := strings.IndexByte(host, '/'); i >= 0 {
		host, rest = host[:i], host[i:]
	}
	return scheme, host, rest, fault{}
}

// prefixes appends :// to each scheme.
func prefixes(schemes []string) []string {
	p := make([]string, len(schemes))
	for i, s := range schemes {
		p[i] = s + "://"
	}
	return p
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// segmentsFault checks what stands between the first slash and the last.
func segmentsFault(value, segments string) fault {
	for _, r := range segments {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || r == unicode.ReplacementChar || strings.ContainsRune(`?#\`, r) {
			return badRemote(value, `must not have white space, control characters, ?, # or \`)
		}
	}
	for segment := range strings.SplitSeq(segments, "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return badRemote(value, "must not have an empty, . or .. segment")
		case hidesSeparator(segment):
			return badRemote(value, "must not have a percent-encoded control character, dot or slash")
		}
	}
	return fault{}
}

// hidesSeparator says whether s has a percent escape that a server could read as a
// control character, a dot, a slash or a backslash, or as a percent sign that begins
// another escape.
func hidesSeparator(s string) bool {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 || i+2 >= len(s) {
			return false
		}
		high, low := unhex(s[i+1]), unhex(s[i+2])
		if ch := high<<4 | low; high >= 0 && low >= 0 && (ch < ' ' || ch == 0x7f || strings.IndexByte(`./\%`, byte(ch)) >= 0) {
			return true
		}
		s = s[i+1:]
	}
}

func unhex(ch byte) int { return strings.IndexByte("0123456789abcdef", ch|0x20) }

func badRemote(value, format string, args ...any) fault {
	return fault{errcode.RemoteStoragePath, fmt.Sprintf(format, args...) + ", got " + quote(redact(value))}
}

// redact takes out of a URL what may be a credential: the user before the host, and
// everything behind the path.
func redact(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i+1] + "…"
	}
	head := ""
	if i := strings.Index(s, "://"); i >= 0 {
		head, s = s[:i+len("://")], s[i+len("://"):]
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "***" + s[i:]
	}
	return head + s
}

// localPathFault checks a local directory. Nothing says whether a task runs on Linux or on Windows, so both
// forms are in order here; another check refuses what only a machine of Windows has. They are an absolute path
// such as /data/in or /data/in/, other than / itself; or a drive, with folders or without, such as H:, H:\,
// D:\scene\ or D:/scene/. Neither may have a ".." segment, a character that does not print, or more than
// maxPath bytes.
func localPathFault(value string) fault {
	bad := func(detail string) fault {
		return fault{errcode.LocalPath, detail + ", got " + quote(value)}
	}
	linux, windows := strings.HasPrefix(value, "/"), isWindowsPath(value)
	switch {
	case len(value) > maxPath:
		return bad(fmt.Sprintf("must be at most %d bytes", maxPath))
	case !linux && !windows:
		return bad("must be an absolute path, such as /data/in/")
	case linux && path.Clean(value) == "/":
		return bad("must not be the root directory or lead out of it")
	}
	for _, r := range value {
		if r != ' ' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return bad("must not have control characters")
		}
	}
	for segment := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '/' || windows && r == '\\' }) {
		if segment == ".." {
			return bad("must not have a .. segment")
		}
	}
	return fault{}
}

// isWindowsPath is ^[A-Za-z]:([\\/]+[^<>:"/\\|?*]*)*$.
func isWindowsPath(s string) bool {
	if len(s) < 2 || !isLetter(s[0]) || s[1] != ':' {
		return false
	}
	s = s[2:]
	return (s == "" || s[0] == '\\' || s[0] == '/') && !strings.ContainsAny(s, `<>:"|?*`)
}

// samePlace returns a key that two local paths share if they mean the same directory.
func samePlace(value string) string {
	if isWindowsPath(value) {
		return path.Clean(strings.ToLower(strings.ReplaceAll(value, `\`, "/")))
	}
	return path.Clean(value)
}

// maxFileName is the length of a log's name. Unit: bytes.
const maxFileName = 255

// placeholders may stand in the name of a log. Source: BatchCompute, RedirectInfo.
var placeholders = []string{"${BATCH_JOB_ID}", "${BATCH_TASK_NAME}", "${BATCH_TASK_INSTANCE_INDEX}"}

// fileNameFault checks the name of a log: a plain file name, in which the placeholders
// may stand and no other "${".
func fileNameFault(value string) fault {
	bad := func(detail string) fault {
		return fault{errcode.InvalidParameterValue, detail + ", got " + quote(value)}
	}
	if len(value) > maxFileName {
		return bad(fmt.Sprintf("must be at most %d bytes", maxFileName))
	}
	rest := value
	for _, p := range placeholders {
		rest = strings.ReplaceAll(rest, p, "")
	}
	switch {
	case strings.Contains(rest, "${"):
		return bad("must have no placeholders but " + either(placeholders))
	case value == "." || value == ".." || strings.ContainsAny(value, `/\`):
		return bad("must be a file name without a directory")
	}
	for _, r := range value {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return bad("must not have control characters")
		}
	}
	return fault{}
}
