// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway answers the HTTP API of the vendor. It says who may ask, and how often; what is done is up to the
// actions that it is given.
//
//	request ──▶ header ──▶ key ──▶ time ──▶ body ──▶ signature ──▶ in flight, rate ──▶ decode ──▶ action ──▶ answer
//	            wire       Keys             wire     signature     ratelimit           params
//
// What a client can make the process hold is bounded before its signature is known to be right, by the client's
// address, and afterwards by its tenant. Nothing is kept for a secretId that does not exist. A request that
// fails before its signature is right takes nothing from the limits of the key that it names, so nobody can use
// up those of another.
//
// Every request gets a RequestId, which is in the answer and in the one line of the log about it. Neither has a
// credential, a signature, a parameter, or the text of an error that is not for the caller; of the latter the
// log has its own line.
//
// A request that is sent again within the five minutes of its timestamp is answered again: nothing is remembered
// of it. What it does twice is what the action does twice; those that create something take a ClientToken.
package gateway
