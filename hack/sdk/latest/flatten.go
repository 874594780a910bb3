// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// flatten writes JSON as flattened parameters: Filters.0.Name.
func flatten(body json.RawMessage, to map[string]string) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("the parameters: %w", err)
	}
	add("", v, to)
	return nil
}

func add(path string, v any, to map[string]string) {
	join := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for name, field := range v {
			add(join(name), field, to)
		}
	case []any:
		for i, item := range v {
			add(join(fmt.Sprint(i)), item, to)
		}
	default:
		to[path] = fmt.Sprint(v)
	}
}
