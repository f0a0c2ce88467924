// Command peer answers one JSON object a line with the verdict of other people's code: a cosigned checkpoint is opened
// by golang.org/x/mod/sumdb/note and transparency-dev/formats, a consistency proof checked by transparency-dev/merkle.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	checkpoint "github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

type question struct {
	Note    string
	Origin  string
	Log     string
	Witness string

	Old, New         uint64
	OldRoot, NewRoot []byte
	Proof            [][]byte
}

type verdict struct {
	Error string `json:"error"`
	Size  uint64 `json:"size"`
	Time  int64  `json:"time"`
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		if err := in.Decode(&asked); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		found, err := judge(asked)
		if err != nil {
			found = verdict{Error: err.Error()}
		}
		if err := out.Encode(found); err != nil {
			log.Fatal(err)
		}
	}
}

func judge(asked question) (verdict, error) {
	if asked.Note == "" {
		err := proof.VerifyConsistency(rfc6962.DefaultHasher, asked.Old, asked.New, asked.Proof, asked.OldRoot, asked.NewRoot)
		return verdict{}, err
	}
	logKey, err := note.NewVerifier(asked.Log)
	if err != nil {
		return verdict{}, err
	}
	witnessKey, err := cosignature.NewVerifierForCosignatureV1(asked.Witness)
	if err != nil {
		return verdict{}, err
	}
	parsed, _, opened, err := checkpoint.ParseCheckpoint([]byte(asked.Note), asked.Origin, logKey, witnessKey)
	if err != nil {
		return verdict{}, err
	}
	for _, signature := range opened.Sigs {
		if signature.Name == witnessKey.Name() && signature.Hash == witnessKey.KeyHash() {
			at, err := cosignature.CoSigV1Timestamp(signature)
			return verdict{Size: parsed.Size, Time: at.Unix()}, err
		}
	}
	return verdict{}, errors.New("no cosignature")
}
