// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// maxVariable is the size of one environment variable. Linux takes 128 KiB at most. Unit: bytes.
const maxVariable = 100 << 10

// Variable is an environment variable.
type Variable struct{ Name, Value string }

// Variables returns the environment variables for a Stage, Exec or Outputs: ConfigVariable, and, where that
// would be too long, ConfigVariable_2 and so on.
func Variables(config any) []Variable {
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // plain structures can always be encoded
	}
	var out []Variable
	for name := ConfigVariable; ; name = fmt.Sprintf("%s_%d", ConfigVariable, len(out)+1) {
		n := min(len(text), maxVariable)
		for n < len(text) && text[n]&0xc0 == 0x80 { // not within a character
			n--
		}
		out = append(out, Variable{name, string(text[:n])})
		if text = text[n:]; len(text) == 0 {
			return out
		}
	}
}

// Read reads a Stage, Exec or Outputs from the environment, and returns the environment without it. The error
// of a configuration of another version says so.
func Read(environ []string, config any) (rest []string, err error) {
	parts := map[int]string{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		suffix, ours := strings.CutPrefix(name, ConfigVariable)
		n, isNumber := 1, suffix == ""
		if number, ok := strings.CutPrefix(suffix, "_"); ours && ok {
			n, err = strconv.Atoi(number)
			isNumber = err == nil
		}
		if !ours || !isNumber {
			rest = append(rest, v)
			continue
		}
		parts[n] = value
	}
	var text strings.Builder
	for n := 1; n <= len(parts); n++ {
		text.WriteString(parts[n])
	}
	return rest, decodeConfig(text.String(), config)
}

// decodeConfig reads a Stage, Exec or Outputs.
func decodeConfig(text string, config any) error {
	if text == "" {
		return fmt.Errorf("the environment variable %s is not set: it has the configuration", ConfigVariable)
	}
	var of struct{ Version int }
	if err := json.Unmarshal([]byte(text), &of); err != nil {
		return fmt.Errorf("reading the environment variable %s: %w", ConfigVariable, err)
	}
	if of.Version != Version {
		return fmt.Errorf("the configuration in %s has version %d, and this agent reads version %d: the agent must be of the operator's release",
			ConfigVariable, of.Version, Version)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(config); err != nil {
		return fmt.Errorf("reading the environment variable %s: %w", ConfigVariable, err)
	}
	return nil
}
