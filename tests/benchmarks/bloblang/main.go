// Mappings a second of Bloblang: a mapping's text and an event as JSON on stdin, the figure on stdout.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
)

func main() {
	var question struct {
		Mapping string `json:"mapping"`
		Event   any    `json:"event"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&question); err != nil {
		panic(err)
	}
	mapping, err := bloblang.Parse(question.Mapping)
	if err != nil {
		panic(err)
	}
	var value any
	run := func(count int) float64 {
		start := time.Now()
		for range count {
			if value, err = mapping.Query(question.Event); err != nil {
				panic(err)
			}
		}
		return float64(count) / time.Since(start).Seconds()
	}
	run(5000)
	answer, _ := json.Marshal(map[string]any{"rate": run(50000), "value": value})
	fmt.Println(string(answer))
}
