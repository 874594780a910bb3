// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package freeport

import (
	"net"
	"testing"
)

func TestAddresses(t *testing.T) {
	addresses, err := Addresses(20)
	if err != nil || len(addresses) != 20 {
		t.Fatal(len(addresses), err)
	}
	for _, a := range addresses {
		l, err := net.Listen("tcp", a) // fails for one that was given twice
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; port < 20000 || port >= 30000 {
			t.Error("a port that a client could be given:", port)
		}
	}
}
