// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package freeport finds ports for servers that are started a little later, or started again.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Addresses returns n addresses of 127.0.0.1 that nobody listens on. Their ports are below those
// that systems give to clients: a client's could take the place of a server before it is up, or
// while it is dead.
func Addresses(n int) ([]string, error) {
	var out []string
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer l.Close() // at the end, so that no port is found twice
		if out = append(out, address); len(out) == n {
			return out, nil
		}
	}
	return nil, errors.New("there are no free ports")
}
