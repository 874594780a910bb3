// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/md5" //nolint:gosec // S3's ETag
	"encoding/hex"
	"fmt"
	"io"

	"batchcompute.dev/operator/internal/staging/crc"
)

// Same tells whether a file of a size has the contents of an object: by the CRC-64, if it is known, or by the
// ETag, if that is one of MD5. If it is of another kind they seem to differ. buf is used for reading.
func Same(f io.ReaderAt, size int64, i Info, buf []byte) (bool, error) {
	if i.Size != size {
		return false, nil
	}
	if i.HasCRC {
		sum, err := Sum(f, size, buf)
		return err == nil && sum == i.CRC, err
	}
	if i.PartBytes == 0 {
		sum, err := sumMD5(nil, io.NewSectionReader(f, 0, size), buf)
		return err == nil && hex.EncodeToString(sum) == i.ETag, err
	}
	// The ETag of an object that was uploaded in parts is the MD5 of the parts' MD5s, and their number.
	var sums []byte
	for offset := int64(0); offset < size; offset += i.PartBytes {
		var err error
		if sums, err = sumMD5(sums, io.NewSectionReader(f, offset, min(i.PartBytes, size-offset)), buf); err != nil {
			return false, err
		}
	}
	all := md5.Sum(sums) //nolint:gosec // S3's ETag
	return fmt.Sprintf("%s-%d", hex.EncodeToString(all[:]), len(sums)/md5.Size) == i.ETag, nil
}

// Sum returns the CRC-64 of a file of a size.
func Sum(f io.ReaderAt, size int64, buf []byte) (sum uint64, err error) {
	_, err = io.CopyBuffer(writer(func(p []byte) { sum = crc.Update(sum, p) }), io.NewSectionReader(f, 0, size), buf)
	return sum, err
}

// sumMD5 appends an MD5 to sums.
func sumMD5(sums []byte, r io.Reader, buf []byte) ([]byte, error) {
	hash := md5.New() //nolint:gosec // S3's ETag
	_, err := io.CopyBuffer(hash, r, buf)
	return hash.Sum(sums), err
}

// writer is a writer that cannot fail.
type writer func(p []byte)

// Write calls the function.
func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
