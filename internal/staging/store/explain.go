// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"batchcompute.dev/operator/internal/staging/fault"
)

// explain returns the *fault.Error of a request's error. The texts are ours: what a server writes is not
// repeated, except its code.
func (c *Client) explain(key string, err error) error {
	if isOurs(err) {
		return err
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		if _, ok := errors.AsType[*xml.SyntaxError](err); ok {
			return fault.Temporary(fault.Truncated, key, "the store's answer is not complete", "").Because(err)
		}
		if key != "" && s3utils.CheckValidObjectName(key) != nil { // the library has not sent the request
			return fault.Final(fault.Name, key, "the name cannot be that of an object", "rename it").Because(err)
		}
		return fault.OfNetwork(key, err)
	}
	e := c.ofCode(key, answer)
	if e == nil {
		e = c.ofStatus(key, answer)
	}
	return e.Because(err)
}

// isOurs tells whether an error is explained already: a file's, or one of the credentials.
func isOurs(err error) bool {
	_, ok := errors.AsType[*fault.Error](err)
	return ok
}

// ofCode explains the codes that have a meaning of their own.
func (c *Client) ofCode(key string, answer minio.ErrorResponse) *fault.Error {
	bucket := fault.Quote(c.bucket)
	switch answer.Code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidToken", "InvalidSecurity", "XAdminUserNotFound":
		if c.accepted.Load() {
			return fault.Temporary(fault.Credentials, key, "the store refuses "+c.keys.name()+", which it accepted before ("+answer.Code+")", c.keys.rotated())
		}
		return fault.Final(fault.Credentials, key, "the store does not accept "+c.keys.name()+" ("+answer.Code+")", c.keys.correct())
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return fault.Temporary(fault.Expired, key, c.keys.name()+" has expired", c.keys.renew())
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return c.keys.denied(key, "this in bucket "+bucket)
	case "RequestTimeTooSkewed":
		return fault.Temporary(fault.Refused, key, "the clock of this machine differs from the store's", "correct the clock of the cluster node")
	case "NoSuchBucket":
		return fault.Final(fault.NoBucket, key, "the bucket "+bucket+" does not exist", "create it, or correct the name")
	case "NoSuchKey":
		return fault.Final(fault.NoObject, key, "the object does not exist in bucket "+bucket, "correct the path, or create the object")
	case "PreconditionFailed", "InvalidRange":
		return changed(key)
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException":
		return fault.Final(fault.Address, key, "the bucket "+bucket+" is in another region ("+answer.Code+")", "correct endpoint and region in the catalogue")
	case "BadDigest", "XAmzContentSHA256Mismatch", "XMinioContentSHA256Mismatch", "IncompleteBody":
		return fault.Temporary(fault.Corrupt, key, "what the store received is not what was sent ("+answer.Code+")", "")
	case "XMinioInvalidObjectName", "InvalidBucketName", "KeyTooLongError":
		return fault.Final(fault.Name, key, "the store does not accept the name", "rename it")
	}
	return nil
}

// ofStatus explains an answer by its status.
func (c *Client) ofStatus(key string, answer minio.ErrorResponse) *fault.Error {
	code := word(answer.Code)
	switch {
	case answer.StatusCode >= 500, answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusRequestTimeout,
		answer.Code == "RequestTimeout", strings.HasPrefix(answer.Code, "Throttling"), strings.HasPrefix(answer.Code, "SlowDown"),
		answer.Code == "InternalError", answer.Code == "ServiceUnavailable":
		return fault.Temporary(fault.Busy, key, fmt.Sprintf("the store cannot serve the request now (%s)", code), "check its load and its limits")
	case answer.StatusCode == http.StatusPreconditionFailed, answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return changed(key)
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		return c.keys.denied(key, "this ("+code+")")
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return fault.Final(fault.Address, key, "the store has another address ("+code+")", "correct the endpoint in the catalogue")
	}
	return fault.Final(fault.Refused, key, "the store refuses the request ("+code+")", "")
}

// changed explains that an object is not the one that was listed.
func changed(key string) *fault.Error {
	return fault.Temporary(fault.Changed, key, "the object changed while it was read", "start the job when its inputs are complete")
}

// word returns a server's code for a text: letters, digits and a few signs, and not many.
func word(code string) string {
	code = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" .-_", r) {
			return r
		}
		return -1
	}, code)
	if code == "" {
		return "no code"
	}
	return code[:min(len(code), 64)]
}
