#!/bin/sh
# Fetches well-known data sets into data/ and checks every file's SHA-256.
#
#   scripts/fetch_dataset.sh tinyshakespeare wikitext2      downloads into data/
#   scripts/fetch_dataset.sh tinyshakespeare --to DIR       downloads into DIR
#   scripts/fetch_dataset.sh wikitext2 --from DIR           copies from a local copy instead, same check
#   scripts/fetch_dataset.sh --list                         what there is, with source and licence
#
# A file appears under its name only when it is whole and right; a right one that is already there is left alone.
# Exit codes: 0 all there, 2 bad usage or unknown name, 3 wrong content (SHA-256), 4 a needed tool is missing,
# 5 the source cannot be read (no network, no such file), 7 the target cannot be written.
set -eu

raw=https://raw.githubusercontent.com

# One line a file: set, file name, SHA-256, URL, licence.
files() {
    cat <<END
tinyshakespeare tinyshakespeare.txt 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed $raw/karpathy/char-rnn/master/data/tinyshakespeare/input.txt public domain
wikitext2 wikitext2_valid.txt f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8 $raw/pytorch/examples/main/word_language_model/data/wikitext-2/valid.txt CC BY-SA
wikitext2 wikitext2_test.txt d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0 $raw/pytorch/examples/main/word_language_model/data/wikitext-2/test.txt CC BY-SA
banking77 banking77_train.csv b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b $raw/PolyAI-LDN/task-specific-datasets/master/banking_data/train.csv CC BY 4.0
waimai waimai_10k.csv b8b5c11c00b51578d35937fca56e03a126b45381f1ea4b22893237cb377a26fe $raw/SophonPlus/ChineseNlpCorpus/master/datasets/waimai_10k/waimai_10k.csv see its repository
codealpaca code_alpaca_2k.json 9cb7352683bd2f530ce81eff7f8d58ccbe1a4bdf28afebbe9f80ec687256066d $raw/sahil280114/codealpaca/master/data/code_alpaca_2k.json CC BY-NC 4.0
END
}

usage() {
    echo "usage: fetch_dataset.sh NAME... [--to DIR] [--from DIR] | --list"
    echo "names: $(files | cut -d' ' -f1 | uniq | tr '\n' ' ')"
}

# stop CODE MESSAGE
stop() {
    code=$1
    shift
    echo "fetch_dataset: $*" >&2
    exit "$code"
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum <"$1" | cut -d' ' -f1
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 <"$1" | cut -d' ' -f1
    else
        stop 4 "neither sha256sum nor shasum is installed; without one no file can be checked"
    fi
}

# download URL FILE
download() {
    if command -v curl >/dev/null 2>&1; then
        curl --fail --location --silent --show-error --retry 2 --connect-timeout 20 --output "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget --no-verbose --tries=3 --timeout=20 --output-document="$2" "$1"
    else
        stop 4 "neither curl nor wget is installed; hint: install one, or copy from a local copy with --from DIR"
    fi
}

# fetch FILE HASH URL
fetch() {
    target=$to/$1
    if [ -f "$target" ] && actual=$(sha256 "$target") && [ "$actual" = "$2" ]; then
        echo "$target: already there, SHA-256 right"
        return
    fi
    [ ! -d "$target" ] || stop 7 "$target is a directory"
    # In the target's own directory, so that the move at the end cannot stop half way.
    partial=$(mktemp "$to/.$1.XXXXXX") || stop 7 "cannot write in $to"
    if [ -n "$from" ]; then
        source=$from/$1
        [ -f "$source" ] || stop 5 "$source: no such file; hint: the local copy must carry the names that --list shows"
        cp "$source" "$partial" || stop 5 "cannot copy $source into $to"
        chmod u+w "$partial"
    else
        source=$3
        download "$source" "$partial" ||
            stop 5 "cannot download $source; hint: is there a network? a local copy serves too: --from DIR"
    fi
    actual=$(sha256 "$partial")
    [ "$actual" = "$2" ] ||
        stop 3 "$source has SHA-256 $actual, not $2; nothing was kept; hint: the file is damaged or has changed"
    chmod 644 "$partial"
    mv -f "$partial" "$target" || stop 7 "cannot write $target"
    partial=''
    echo "$target: fetched from $source, SHA-256 right"
}

names=''
to=data
from=''
partial=''
trap '[ -z "$partial" ] || rm -f "$partial"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

while [ $# -gt 0 ]; do
    case $1 in
    --to | --from)
        [ $# -ge 2 ] && [ -n "$2" ] || stop 2 "$1 needs a directory"
        if [ "$1" = --to ]; then to=$2; else from=$2; fi
        shift
        ;;
    --list)
        files | while read -r name file hash url licence; do
            echo "$name: $file"
            echo "    from    $url"
            echo "    licence $licence"
            echo "    sha256  $hash"
        done
        exit 0
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) stop 2 "unknown option $1; $(usage)" ;;
    *)
        files | cut -d' ' -f1 | grep -qxF -e "$1" || stop 2 "unknown data set '$1'; $(usage)"
        names="$names $1"
        ;;
    esac
    shift
done
[ -n "$names" ] || stop 2 "no data set named; $(usage)"
[ -z "$from" ] || [ -d "$from" ] || stop 5 "$from: no such directory"
mkdir -p "$to" || stop 7 "cannot create $to"

# Read from a here-document, not a pipe: a failure in the loop must end the script.
while read -r name file hash url _; do
    case "$names " in
    *" $name "*) fetch "$file" "$hash" "$url" ;;
    esac
done <<END
$(files)
END
