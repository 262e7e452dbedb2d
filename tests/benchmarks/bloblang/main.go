// Mappings per second of CPU time of Bloblang: a mapping's text and an event as JSON on stdin, the figure on stdout.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"

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
		start := cpuSeconds()
		for range count {
			if value, err = mapping.Query(question.Event); err != nil {
				panic(err)
			}
		}
		return float64(count) / (cpuSeconds() - start)
	}
	run(5000)
	answer, _ := json.Marshal(map[string]any{"rate": run(50000), "value": value})
	fmt.Println(string(answer))
}

// cpuSeconds returns the CPU time of all threads of this process, as Python's process_time.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	nanoseconds := usage.Utime.Nano() + usage.Stime.Nano()
	return float64(nanoseconds) / 1e9
}
