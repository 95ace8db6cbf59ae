"""The gateway's words: who asks (`identity`), what is asked (`asking`), what is kept (`keeping`), what is found (`finding`)."""
