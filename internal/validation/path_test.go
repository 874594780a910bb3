// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"path"
	"strings"
	"testing"
	"unicode"

	"batchcompute.dev/operator/internal/errcode"
)

const (
	scheme = errcode.RemoteStorageSchemeType
	remote = errcode.RemoteStoragePath
	local  = errcode.LocalPath
)

func TestRemoteDirectory(t *testing.T) {
	for value, want := range map[string]errcode.Code{
		"cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/":        "",
		"cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/a/b.c/":  "",
		"cos://dondonbatch-1251783334.cosgz.myqcloud.com/h2/logs/": "",
		"cos://b/目录/":                           "",
		"cos://b/100%/a%20b/%zz/":               "",
		"cfs://10.0.0.20/textures/":             "",
		"cfs://10.0.0.20:/textures/":            "",
		"nfs://server.example/":                 "",
		"":                                      scheme,
		"/data/":                                scheme,
		"s3://b/logs/":                          scheme,
		"COS://b/":                              scheme,
		"cos:/b/":                               scheme,
		" cos://b/":                             scheme,
		"cos://":                                remote,
		"cos:///":                               remote,
		"cos://b":                               remote,
		"cos://host/logs":                       remote,
		"cos://b-1..cosgz.example/":             remote,
		"cos://-b/":                             remote,
		"cos://b./":                             remote,
		"cos://b:/":                             remote,
		"cos://b:443/":                          remote,
		"nfs://h::/":                            remote,
		"nfs://h:2049/":                         remote,
		"cos://user:pass@b/":                    remote,
		"cos://b_c/":                            remote,
		"cos://b//":                             remote,
		"cos://b/a//c/":                         remote,
		"cos://b/./":                            remote,
		"cos://b/../c/":                         remote,
		"cos://b/a b/":                          remote,
		"cos://b/a\tb/":                         remote,
		"cos://b/a\x00b/":                       remote,
		"cos://b/a\u202eb/":                     remote,
		"cos://b/a\u00a0b/":                     remote,
		"cos://b/a\xffb/":                       remote,
		`cos://b/a\b/`:                          remote,
		"cos://b/?sign=secret/":                 remote,
		"cos://b/a#/":                           remote,
		"cos://b/%00/":                          remote,
		"cos://b/%2e%2E/":                       remote,
		"cos://b/a%2Fb/":                        remote,
		"cos://b/a%5cb/":                        remote,
		"cos://b/a%252fb/":                      remote,
		"cos://b/%7f/":                          remote,
		"cos://b/%1/":                           "",
		"cos://b/" + strings.Repeat("a/", 3000): remote,
	} {
		f := remoteDirectoryFault(value, inputSchemes)
		if f.code != want {
			t.Errorf("%q: %q %s, want %q", value, f.code, f.detail, want)
		}
		checkFault(t, value, f)
	}
}

func TestRemotePackage(t *testing.T) {
	for value, want := range map[string]errcode.Code{
		"cos://studio-1250000000.cos.ap-guangzhou.myqcloud.com/pkg/render.tgz": "",
		"http://h.example:8080/p.tgz":                                          "",
		"https://10.0.0.1/a/b.c/p-1.tar.gz":                                    "",
		"p.tgz":                                                                scheme,
		"ftp://h/p.tgz":                                                        scheme,
		"cfs://h/p.tgz":                                                        scheme,
		"cos://h:80/p.tgz":                                                     remote,
		"http://h:/p.tgz":                                                      remote,
		"http://h:99999/p.tgz":                                                 remote,
		"http://h:123456/p.tgz":                                                remote,
		"http://h/p.zip":                                                       remote,
		"http://h/p.tgz/":                                                      remote,
		"http://h/.tgz":                                                        remote,
		"http://h/a/.tar.gz":                                                   remote,
		"http://h":                                                             remote,
		"http://h.tgz":                                                         remote,
		"http:///p.tgz":                                                        remote,
		"http://h/p.tgz?sign=secret":                                           remote,
		"http://h/p.tgz?x=.tgz":                                                remote,
		"http://u:secret@h/p.tgz":                                              remote,
		"http://h/../p.tgz":                                                    remote,
		"http://h/a b.tgz":                                                     remote,
		"http://" + strings.Repeat("h", 5000) + "/p.tgz": remote,
	} {
		f := remotePackageFault(value)
		if f.code != want {
			t.Errorf("%q: %q %s, want %q", value, f.code, f.detail, want)
		}
		checkFault(t, value, f)
	}
}

func checkFault(t interface{ Errorf(string, ...any) }, value string, f fault) {
	if strings.Contains(f.detail, "secret") || strings.Contains(f.detail, "pass@") {
		t.Errorf("%q: the detail repeats a credential: %s", value, f.detail)
	}
	if len(f.detail) > MaxDetail || (f.code == "") != (f.detail == "") {
		t.Errorf("%q: code %q with a detail of %d bytes: %s", value, f.code, len(f.detail), f.detail)
	}
}

func TestLocalPath(t *testing.T) {
	for value, want := range map[string]errcode.Code{
		"/data":                         "",
		"/data/input/":                  "",
		"/a b/名/..c/d..":                "",
		"/a//b/./c":                     "",
		"H:":                            "",
		`H:\`:                           "",
		`h:\\render\\out`:               "",
		`D:\scene\`:                     "",
		`C:\a b\`:                       "",
		"":                              local,
		"data/in":                       local,
		"./data":                        local,
		"~/data":                        local,
		"/":                             local,
		"//":                            local,
		"/./":                           local,
		"/a/..":                         local,
		"/a/../../etc":                  local,
		"/..":                           local,
		"/a/../b":                       local,
		"/a\x00b":                       local,
		"/a\nb":                         local,
		"/a\u202eb":                     local,
		"/a\xffb":                       local,
		"C:render":                      local,
		"C:/render":                     "",
		"J://":                          "",
		"C:/a/../b":                     local,
		`C:\a\..\b`:                     local,
		`C:\a:b`:                        local,
		`C:\a?`:                         local,
		`1:\a`:                          local,
		`\\server\share`:                local,
		"C":                             local,
		"/" + strings.Repeat("a", 4096): local,
	} {
		f := localPathFault(value)
		if f.code != want {
			t.Errorf("%q: %q %s, want %q", value, f.code, f.detail, want)
		}
		checkFault(t, value, f)
	}
}

func TestSamePlace(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/data", "/data/", true}, {"/data", "//data/.", true}, {"/data", "/Data", false}, {"/data", "/data/x", false},
		{`H:`, `h:\`, true}, {`D:\Scene\`, `d:\\scene`, true}, {`D:\a`, `E:\a`, false},
	} {
		if got := samePlace(tc.a) == samePlace(tc.b); got != tc.want {
			t.Errorf("%s and %s: %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestFileName(t *testing.T) {
	for value, want := range map[string]bool{
		"o.log": true, "${BATCH_JOB_ID}.${BATCH_TASK_NAME}.${BATCH_TASK_INSTANCE_INDEX}.out": true, "$x $(y)": true, "名": true,
		"${BATCH_TASK_INSTANCE_NUM}": false, "${": false, "$${BATCH_JOB_ID}{": false, "a/b": false, `a\b`: false, ".": false, "..": false,
		"a\x00": false, "a\xff": false, strings.Repeat("x", 255): true, strings.Repeat("x", 256): false,
	} {
		f := fileNameFault(value)
		if (f.code == "") != want {
			t.Errorf("%q: %q %s, want accepted %v", value, f.code, f.detail, want)
		}
	}
}

func TestImageReference(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for value, want := range map[string]bool{
		"busybox": true, "busybox:1.37": true, "busybox" + digest: true, "busybox:1.37" + digest: true,
		"library/busybox": true, "registry.example.test/vision/train:1.4": true, "localhost/a": true, "localhost:5000/a:b": true,
		"10.0.0.1:5000/a/b/c": true, "Registry/a": true, "a__b/c.d/e---f": true, "REG.example/x:Tag_1.0-a": true, "img-bd78fy2t": true,
		"": false, ":1": false, "@": false, "a:": false, "a@": false, "A": false, "a/B": false, "a b": false, "a//b": false, "/a": false, "a/": false,
		"a..b": false, "a_-b": false, "a___b": false, "-a": false, "a-": false, "a:-1": false, "a:.1": false, "a:b:c": false, "a:b c": false,
		"a@sha256": false, "a@sha256:0": false, "a@:" + strings.Repeat("0", 64): false, "a@sha256:" + strings.Repeat("g", 64): false,
		"a@sha256:" + strings.Repeat("G", 64): false, "a@sha256:" + strings.Repeat("0", 300): false,
		"http://r/a": false, "r.example:99999/a": false, "r.example:/a": false, "r..example/a": false, "a\x00": false, "名": false,
		"a:" + strings.Repeat("b", 128): true, "a:" + strings.Repeat("b", 129): false,
		strings.Repeat("a", 255): true, strings.Repeat("a", 256): false, strings.Repeat("a", 1<<20): false,
	} {
		if got := isImageReference(value); got != want {
			t.Errorf("%.60q: %v, want %v", value, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for value, want := range map[string]bool{"a": true, "a.b-c": true, "": false, "A": false, "a..b": false, "-a": false, strings.Repeat("a", 254): false} {
		if got := isObjectName(value); got != want {
			t.Errorf("object name %q: %v, want %v", value, got, want)
		}
	}
	for value, want := range map[string]bool{"0": true, "0.8": true, "10.25": true, "": false, ".5": false, "1.": false, "-1": false, "1e9": false, "1.2.3": false, strings.Repeat("1", 33): false} {
		if got := isDecimal(value); got != want {
			t.Errorf("decimal %q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{"", "1", "a", "_", "A1", "é"} {
		want := s == "a" || s == "_" || s == "A1"
		if got := isVariableName(s); got != want {
			t.Errorf("variable %q: %v, want %v", s, got, want)
		}
		want = s == "a" || s == "1" || s == "A1"
		if got := isTaskName(s); got != want {
			t.Errorf("task name %q: %v, want %v", s, got, want)
		}
	}
	for name, want := range map[string]bool{
		"JOB_RUNNING": true, "TASK_FAILED_INTERRUPTED": true, "TASK_INSTANCE_SUCCEED": true, "COMPUTE_NODE_DELETING": true,
		"JOB_": false, "TASK_INSTANCE_": false, "TASK_CREATED": false, "COMPUTE_NODE_SUCCEED": false, "COMPUTE_ENV_CREATED": false, "": false, "job_failed": false,
	} {
		if got := isEventName(name); got != want {
			t.Errorf("event %q: %v, want %v", name, got, want)
		}
	}
}

// What the grammars accept is safe to join, mount and print.
func FuzzRemotePath(f *testing.F) {
	for _, seed := range []string{
		"", "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/a/", "cos://u:p@h/", "cfs://10.0.0.20:/t/", "cos://b/../%2e%2e/%00/", "nfs://h/\u202e/",
		"http://h:8080/a/p.tgz", "cos://b/?x#y/", "cos://b/a%252fb/", "https://h/p.tar.gz",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, fault := range []fault{remoteDirectoryFault(value, inputSchemes), remotePackageFault(value)} {
			checkDetail(t, fault)
			if fault.code != "" {
				continue
			}
			_, rest, _ := strings.Cut(value, "://")
			host, dir, ok := strings.Cut(rest, "/")
			if !ok || strings.ContainsAny(host, "@/ ") || len(value) > maxPath {
				t.Errorf("%q was accepted with host %q", value, host)
			}
			if clean := path.Clean("/" + dir); clean != "/" && strings.TrimSuffix("/"+dir, "/") != clean {
				t.Errorf("%q was accepted, its path means %q", value, clean)
			}
			if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '?' || r == '#' }) {
				t.Errorf("%q was accepted", value)
			}
		}
	})
}

func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"", "/", "/data/in/", `D:\scene\`, "/a/../b", "/a\x00", `C:\..\x`, "/a/\u202e", "H:", "//", `c:\/`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		fault := localPathFault(value)
		checkDetail(t, fault)
		if fault.code != "" {
			return
		}
		for _, segment := range strings.FieldsFunc(value, func(r rune) bool { return r == '/' || r == '\\' && !strings.HasPrefix(value, "/") }) {
			if segment == ".." {
				t.Errorf("%q was accepted", value)
			}
		}
		if samePlace(value) == "/" || strings.ContainsFunc(value, unicode.IsControl) || len(value) > maxPath {
			t.Errorf("%q was accepted", value)
		}
	})
}

func FuzzImageReference(f *testing.F) {
	for _, seed := range []string{"", "busybox:1.37", "localhost:5000/a/b@sha256:" + strings.Repeat("0", 64), "a__b", "A/b", "a:b:c", "a@b@c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if isImageReference(value) && (strings.ContainsAny(value, " \t\n\x00@") && !strings.Contains(value, "@") || strings.Contains(value, "//") || value == "") {
			t.Errorf("%q was accepted", value)
		}
	})
}

func checkDetail(t *testing.T, f fault) {
	if len(f.detail) > MaxDetail || strings.ContainsFunc(f.detail, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("detail %q", f.detail)
	}
}
