# SPDX-License-Identifier: Apache-2.0

##@ Documents

# The sum at the end lets tests/documents.rs see that a picture is that of its source.
pictures: deps-pictures  ## draw the pictures of docs/design anew, from the .dot files beside them
	for source in docs/design/*.dot; do \
	  { dot -Tsvg "$$source" && echo "<!-- $$(sha256sum <"$$source") -->"; } >"$${source%.dot}.svg" || exit 1; \
	done
