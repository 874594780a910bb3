// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"batchcompute.dev/operator/internal/gateway"
	"batchcompute.dev/operator/internal/gateway/ratelimit"
)

// options are the gateway's flags.
type options struct {
	addr         string
	certDir      string
	catalog      string
	probeAddr    string
	metricsAddr  string
	regions      []string
	limits       map[string]ratelimit.Limit
	defaultLimit ratelimit.Limit
	maxInFlight  int
	verbosity    int
}

// defaultAction names the actions without a limit of their own in --rate-limit.
const defaultAction = "default"

// parseOptions reads the command line, without the program's name. actions are the names that --rate-limit knows.
func parseOptions(args, actions []string) (*options, error) {
	o := &options{limits: ratelimit.Defaults(), defaultLimit: ratelimit.DefaultLimit}
	fs := flag.NewFlagSet("gateway", flag.ContinueOnError)
	fs.StringVar(&o.addr, "bind-address", ":8443", "Address of the API.")
	fs.StringVar(&o.certDir, "tls-cert-dir", "",
		"Directory with tls.crt and tls.key for the API, as cert-manager writes them. It is watched. Empty: plain HTTP, for an ingress that ends TLS.")
	fs.StringVar(&o.catalog, "catalog", "",
		"File of kind Catalog, the operator's, for the actions that list machine types. It is watched. Empty: there are none.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns it off.")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":8080", "Address of /metrics; 0 turns it off. It has no access control: restrict it by a network policy.")
	fs.Func("regions", "Regions that are served, comma-separated; a request for another is refused. (default any)", func(s string) error {
		if o.regions = strings.Split(s, ","); slices.Contains(o.regions, "") {
			return errors.New("must be such as ap-guangzhou,ap-beijing")
		}
		return nil
	})
	fs.Func("rate-limit", "ACTION=N: requests a second of one key for an action; "+defaultAction+"=N for all actions without a limit of their own; 0 is no limit. "+
		"It holds for each replica. Can be repeated. (default those of the API)", func(s string) error { return o.setLimit(s, actions) })
	fs.IntVar(&o.maxInFlight, "max-in-flight", gateway.DefaultInFlight, "How many requests of one namespace are answered at the same time.")
	fs.IntVar(&o.verbosity, "v", 0, "Log level: 0 has a line for each request, 1 adds what could not be read, 4 and more what the Kubernetes libraries log for debugging.")
	config.RegisterFlags(fs)
	fs.SetOutput(io.Discard) // main prints the error; the list of all flags would hide it
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fs.PrintDefaults()
	}
	if err != nil {
		return nil, err
	}
	return o, o.check(fs)
}

func (o *options) setLimit(s string, actions []string) error {
	action, value, _ := strings.Cut(s, "=")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || n < 0 || n > 1e6 {
		return errors.New("must be such as SubmitJob=7")
	}
	switch {
	case action == defaultAction:
		o.defaultLimit = ratelimit.Limit{PerSecond: n}
	case slices.Contains(actions, action):
		o.limits[action] = ratelimit.Limit{PerSecond: n}
	default:
		return fmt.Errorf("there is no action %q", action)
	}
	return nil
}

// check returns what no single flag can see.
func (o *options) check(fs *flag.FlagSet) error {
	_, _, err := net.SplitHostPort(o.addr)
	switch {
	case err != nil:
		return fmt.Errorf("--bind-address must be such as :8443: %w", err)
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.maxInFlight < 1:
		return errors.New("--max-in-flight must be at least 1")
	}
	return nil
}
