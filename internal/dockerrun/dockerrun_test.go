// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dockerrun

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/cputime"
)

func TestParse(t *testing.T) {
	size := func(s string) *resource.Quantity { q := resource.MustParse(s); return &q }
	for text, want := range map[string]Options{
		"":                            {},
		" \t ":                        {},
		"-u root":                     {User: new(int64(0))},
		"--user=1000:100":             {User: new(int64(1000)), Group: new(int64(100))},
		"-u1000:root":                 {User: new(int64(1000)), Group: new(int64(0))},
		"-u 1 --user 2147483647":      {User: new(int64(2147483647))},
		"-u 1:2 -u 3":                 {User: new(int64(3))},
		"-w /data/x --workdir /y":     {WorkingDir: "/y"},
		"-w '/a b'":                   {WorkingDir: "/a b"},
		"--shm-size 64m":              {ShmSize: size("64Mi")},
		"--shm-size=1024G":            {ShmSize: size("1Ti")},
		"--shm-size 1":                {ShmSize: size("1")},
		"--shm-size 2k":               {ShmSize: size("2Ki")},
		"--shm-size 3b":               {ShmSize: size("3")},
		"--gpus 2":                    {GPUs: 2},
		"--gpus all":                  {AllGPUs: true},
		"--gpus all --gpus 1":         {GPUs: 1},
		"-e A=1 --env=B= -eC=x=y":     {Env: []v1alpha1.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}, {Name: "C", Value: "x=y"}}},
		`-e 'A=$HOME ` + "`x`" + `;'`: {Env: []v1alpha1.EnvVar{{Name: "A", Value: "$HOME `x`;"}}},
		`-e A="a b\"\$\n" -e B=a\ b\;\\`: {Env: []v1alpha1.EnvVar{
			{Name: "A", Value: `a b"$\n`}, {Name: "B", Value: `a b;\`},
		}},
		`-e A=a'b'"c"d`:          {Env: []v1alpha1.EnvVar{{Name: "A", Value: "abcd"}}},
		`-e A=~/x -e B=*`:        {Env: []v1alpha1.EnvVar{{Name: "A", Value: "~/x"}, {Name: "B", Value: "*"}}},
		`-e A={1,2}`:             {Env: []v1alpha1.EnvVar{{Name: "A", Value: "{1,2}"}}},
		"-u \\\nroot":            {User: new(int64(0))},
		"-u root # as the image": {User: new(int64(0))},
		"-u 5 --":                {User: new(int64(5))},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const allowed = "must be -u, -e, -w, --shm-size or --gpus, got "
	for text, want := range map[string]string{
		"--privileged":                 allowed + "--privileged",
		"-u root --privileged=true":    allowed + "--privileged",
		"-v /:/host":                   allowed + "-v",
		"-it":                          allowed + "-i",
		"--help":                       allowed + "--help",
		"-h":                           allowed + "--help",
		"--\x1b[31m":                   allowed + `"--\x1b[31m"`,
		"--" + strings.Repeat("x", 99): allowed + `"--xxx`,
		"--=x":                         "each with its value",
		"busybox":                      "only options and their values",
		"-e A=correct horse":           "quote a value that has spaces",
		"-- -u root":                   "only options and their values",
		"-u":                           "must have a value after --user",
		"--gpus":                       "must have a value after --gpus",
		"-u nobody":                    `numbers up to 2147483647, got "nobody"`,
		"-u 2147483648":                "numbers up to 2147483647",
		"-u -1":                        "numbers up to 2147483647",
		"-u +1":                        "numbers up to 2147483647",
		"-u ''":                        "numbers up to 2147483647",
		"-u 1:":                        "numbers up to 2147483647",
		"-u :1":                        "numbers up to 2147483647",
		"-u 1:2:3":                     "numbers up to 2147483647",
		"-e A":                         "must have a name, = and a value after -e",
		"-e =x":                        "a name of letters, digits and _",
		"-e 1A=x":                      "a name of letters, digits and _",
		"-e A-B=x":                     "a name of letters, digits and _",
		"-e BATCH_JOB_ID=x":            "begins with BATCH_, which is reserved",
		"-w data":                      `an absolute path without control characters after -w, such as /data, got "data"`,
		"-w ''":                        "an absolute path",
		"-w '/a\tb'":                   "an absolute path",
		"--shm-size 0":                 "from 1 byte to 1024g",
		"--shm-size 1025g":             `from 1 byte to 1024g, got "1025g"`,
		"--shm-size 1t":                "from 1 byte",
		"--shm-size 1.5g":              "a whole number",
		"--shm-size 1mb":               "with b, k, m or g",
		"--shm-size g":                 "a whole number",
		"--shm-size -1":                "a whole number",
		"--shm-size ''":                "a whole number",
		"--shm-size 99999999999999999": "from 1 byte",
		"--gpus -1":                    "a number up to 1000 or all",
		"--gpus 1001":                  "a number up to 1000 or all",
		"--gpus device=0":              "a number up to 1000 or all",
		"--gpus ''":                    "a number up to 1000 or all",
		"-e A=$HOME":                   "must not need a shell",
		`-e A="$HOME"`:                 "must not need a shell",
		"-e A=$(id)":                   "must not need a shell",
		"-e A=`id`":                    "must not need a shell",
		"-e A=$((1+1))":                "must not need a shell",
		"-u root; id":                  "must not need a shell",
		"-u root;":                     "must not need a shell",
		"-u root &":                    "must not need a shell",
		"-u root | id":                 "must not need a shell",
		"-u root && id":                "must not need a shell",
		"-u root > /x":                 "must not need a shell",
		"-u root\nid":                  "must not need a shell",
		"() { id; }":                   "must not need a shell",
		"-e 'A=x":                      "a shell can split",
		`-e "A=x`:                      "a shell can split",
		"-u (root)":                    "a shell can split",
		"-e A=\x00":                    "must be UTF-8 text without NUL characters",
		"-e A=\xff":                    "must be UTF-8 text without NUL characters",
		strings.Repeat(" ", 4097):      "must be at most 4096 bytes, got 4097",
	} {
		t.Run(text, func(t *testing.T) {
			o, err := Parse(text)
			if err == nil {
				t.Fatalf("taken as %+v", o)
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q, want %q in it", err, want)
			}
			if diff := cmp.Diff(Options{}, o); diff != "" {
				t.Errorf("an error and options: %s", diff)
			}
		})
	}
}

// No error repeats the value of a variable, wherever the mistake is.
func TestErrorsKeepSecrets(t *testing.T) {
	const secret = "hunter22"
	for _, text := range []string{
		"-e A-B=" + secret, "-e BATCH_A=" + secret, "-e A=" + secret + " --privileged", "-e A=" + secret + " " + secret,
		"-e A=x" + secret + "$x", "-e 'A=" + secret, "-e A=" + secret + " -u x", "-u A=" + secret, "-w A=" + secret, "--gpus A=" + secret,
		"--shm-size A=" + secret, "--environment A=" + secret, "--environment=A=" + secret, "-e =" + secret, "-eA-B=" + secret, "-e " + secret,
	} {
		if _, err := Parse(text); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A request may have some hundred texts of the greatest length.
func TestHostileTextsStayCheap(t *testing.T) {
	for _, unit := range []string{
		"$((", "$((a[", `$(("$(`, `"$(`, "$(", "${x:-", "$[", "((", "(", "{", "`", "\\`", "<<E\n", "case x in ", "if ", "! ", "f()", `"`, "'", `\`, " a", "-e A=b ",
	} {
		text := strings.Repeat(unit, MaxText/len(unit))
		part := text[:len(text)/8/len(unit)*len(unit)]
		// Eight times the text takes eight times as long, and not 64 times.
		if ratio := cputime.Ratio(func() { _, _ = Parse(text) }, func() { _, _ = Parse(part) }); ratio > 24 {
			t.Errorf("eight times the length of %q again and again takes %.1f times as long", unit, ratio)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "-u root", "-u 1:2 -e A=b -w /x --shm-size 1g --gpus all", "--privileged", `-e A="a \"b" -e 'B=c'`, "-e A=$(x)", "-u root; id", "--=", "-- x", "-uu",
		"((", "<<E\nE", "{a,b}", "$'x'", `"$`, "`", "-e A=@(x|y)",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			m := err.Error()
			if !strings.HasPrefix(m, "must ") || len(m) > 250 || strings.ContainsFunc(m, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("error %q", m)
			}
			return
		}
		for _, n := range []*int64{o.User, o.Group} {
			if n != nil && (*n < 0 || *n > maxID) {
				t.Errorf("a number of %d", *n)
			}
		}
		if o.GPUs < 0 || o.GPUs > maxGPUs || o.AllGPUs && o.GPUs != 0 || o.WorkingDir != "" && o.WorkingDir[0] != '/' {
			t.Errorf("%+v", o)
		}
		if o.ShmSize != nil && (o.ShmSize.Value() < 1 || o.ShmSize.Value() > maxShmSize) {
			t.Errorf("shared memory of %s", o.ShmSize)
		}
		for _, v := range o.Env {
			if v.Name == "" || strings.HasPrefix(v.Name, v1alpha1.EnvReservedPrefix) || !strings.Contains(text, v.Name[:1]) {
				t.Errorf("variable %q", v.Name)
			}
		}
	})
}
