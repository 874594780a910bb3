// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"errors"
	"io"
)

// ending keeps the last bytes of a stream.
type ending struct {
	limit int
	bytes []byte
	total int64 // bytes of the stream
	lines int64 // line ends of the stream
}

// readFrom reads a stream to its end.
func (e *ending) readFrom(r io.Reader) error {
	buf := make([]byte, 32<<10)
	e.bytes = []byte{}
	for {
		n, err := r.Read(buf)
		e.total += int64(n)
		e.lines += int64(bytes.Count(buf[:n], []byte("\n")))
		e.bytes = append(e.bytes, buf[:n]...)
		e.bytes = append(e.bytes[:0], e.bytes[max(0, len(e.bytes)-e.limit):]...)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
