// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
)

// provider returns where the keys of a store come from.
func provider(s agentapi.Store, transport http.RoundTripper) *credentials.Credentials {
	switch {
	case s.Credentials == "":
		return credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	case s.Identity == "":
		return credentials.New(&files{dir: s.Credentials, id: s.SecretID, of: keySource{s}})
	}
	return credentials.New(&identity{credentials.STSWebIdentity{
		Client:      &http.Client{Transport: identityAnswers{transport}, Timeout: identityTimeout},
		STSEndpoint: s.Identity,
		RoleARN:     s.Role,
		GetWebIDTokenExpiry: func() (*credentials.WebIdentityToken, error) {
			token, err := keySource{s}.read(filepath.Join(s.Credentials, agentapi.TokenFile))
			if err != nil {
				return nil, err
			}
			return &credentials.WebIdentityToken{Token: token}, nil
		},
	}})
}

// files is a directory with keys. It is looked at for each request.
type files struct {
	dir string
	// id is the identifier of the key; empty means that a file has it.
	id string
	of keySource

	mu sync.Mutex
	// version and value are what was read last; version is empty if it has none.
	version string
	value   credentials.Value
}

// IsExpired is always true, so that Retrieve is called each time.
func (f *files) IsExpired() bool { return true }

// Retrieve is RetrieveWithCredContext.
func (f *files) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext reads the files, all of one version of the Secret, unless that was read before. The
// kubelet replaces the link ..data when a Secret changes.
func (f *files) RetrieveWithCredContext(*credentials.CredContext) (v credentials.Value, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range 3 {
		dir := f.dir
		version, linkErr := os.Readlink(filepath.Join(dir, "..data"))
		if linkErr != nil {
			version = ""
		} else if version == f.version {
			return f.value, nil
		}
		dir = filepath.Join(dir, filepath.Base(version))
		if v, err = f.read(dir); err == nil {
			f.version, f.value = version, v
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return v, err
}

// read reads the files of one version.
func (f *files) read(dir string) (v credentials.Value, err error) {
	if v.AccessKeyID = f.id; f.id == "" {
		if v.AccessKeyID, err = f.of.read(filepath.Join(dir, agentapi.SecretIDFile)); err != nil {
			return v, err
		}
	}
	if v.SecretAccessKey, err = f.of.read(filepath.Join(dir, agentapi.SecretKeyFile)); err != nil {
		return v, err
	}
	v.SessionToken, err = f.of.read(filepath.Join(dir, agentapi.TokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	v.SignerType = credentials.SignatureV4
	return v, err
}

// read reads a file without the white space at its ends.
func (k keySource) read(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil && k.Identity != "" {
		return "", fault.Final(fault.Credentials, "", "the token of the Pod's ServiceAccount cannot be read", "check the audience of the store in the operator's catalogue").Because(err)
	}
	if err != nil {
		return "", fault.Final(fault.Credentials, "", "the key "+filepath.Base(name)+" cannot be read in "+k.secret(), "add it to the Secret").Because(err)
	}
	value := strings.TrimSpace(string(text))
	if value == "" && filepath.Base(name) != agentapi.TokenFile { // the library would not sign
		return "", fault.Final(fault.Credentials, "", "the key "+filepath.Base(name)+" is empty in "+k.secret(), "store the value in the Secret")
	}
	return value, nil
}

// identity exchanges a token for keys, and keeps them until shortly before they expire.
type identity struct{ credentials.STSWebIdentity }

// identityTimeout is how long the service may take: the library does not stop this request with the others.
const identityTimeout = 30 * time.Second

// RetrieveWithCredContext asks the service.
func (i *identity) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := i.STSWebIdentity.RetrieveWithCredContext(cc)
	if err != nil {
		return v, fault.OfNetwork("", err)
	}
	return v, nil
}

// identityAnswers is a transport that turns refusals into errors: the library understands only some.
type identityAnswers struct{ next http.RoundTripper }

// RoundTrip sends the request.
func (t identityAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil || answer.StatusCode == http.StatusOK {
		return answer, err
	}
	_ = answer.Body.Close() // it is not used
	if answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
		return nil, fault.Temporary(fault.Busy, "", "the identity service answers "+strconv.Itoa(answer.StatusCode), "check its load")
	}
	return nil, fault.Final(fault.Credentials, "", "the identity service refuses the token ("+strconv.Itoa(answer.StatusCode)+")", "check role and audience of the store in the operator's catalogue")
}
