// Judges pods by Kubernetes's own evaluator of the Pod Security Standards: profile "restricted", newest version.
//
// Reads one JSON object a line, {"metadata": …, "spec": …} of a pod; answers with one line each, {"forbidden": "…"}, empty
// for a pod that is allowed.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type pod struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     corev1.PodSpec    `json:"spec"`
}

type verdict struct {
	Forbidden string `json:"forbidden"`
}

func judge() error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var given pod
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&given); err != nil {
			return err
		}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &given.Metadata, &given.Spec))
		answer := verdict{}
		if !result.Allowed {
			answer.Forbidden = result.ForbiddenDetail()
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := judge(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
