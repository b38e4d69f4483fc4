//! A run that trains a low-rank adapter: what is trained, and what its checkpoints hold.

use crate::config::RunConfig;
use crate::error::Error;
use crate::network::{Network, NetworkConfig};
use checkpoint::{AdapterConfig, Contents, adapter};
use data::Tokenizer;
use model::bert::BertHead;
use model::weights::{Family, Freeze, TOKEN_EMBEDDING};
use model::{Bert, Gpt, LoraConfig, Tensors};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What a run with a `[lora]` table does to the model it starts from.
#[derive(Clone, Debug)]
pub(crate) struct Adaptation {
    pub config: LoraConfig,
    /// The directory of the model that is adapted.
    base: PathBuf,
    /// Its [`adapter::weights_hash`].
    base_hash: String,
    /// Modules that the adapted model lacks, trained and saved whole.
    whole: &'static [&'static str],
}

impl Adaptation {
    /// What `config` asks for, of a model with the tensors `initial`; its embedding is trained if the tokenizer brings tokens
    /// that it has not seen.
    ///
    /// # Errors
    /// Layers that there are none of; a rank that saves nothing; an adapter as the model that is adapted; a head that the
    /// model lacks and that an adapter cannot hold.
    pub fn new(
        config: &RunConfig,
        model: &NetworkConfig,
        initial: Option<&Tensors>,
        has_new_tokens: bool,
    ) -> Result<Option<Self>, Error> {
        let Some(lora) = &config.lora else { return Ok(None) };
        let (Some(base), Some(initial)) = (&config.model.init_from, initial) else {
            return Err(Error::Config("[lora] needs a model that it adapts; hint: set `model.init_from`".into()));
        };
        if checkpoint::is_adapter_dir(base) {
            return Err(Error::Config(format!(
                "`model.init_from`: {} holds an adapter, and [lora] adapts whole models; hint: `firebox merge` it first",
                base.display()
            )));
        }
        let narrowest = match model {
            NetworkConfig::Gpt(model) => model.d_model.min(model.d_ff),
            NetworkConfig::Bert(model) => model.d_model.min(model.d_ff),
        };
        if lora.rank > narrowest {
            return Err(Error::Config(format!(
                "`lora.rank` is {}, but the layers are {narrowest} wide; hint: 8 or 16 is usual, and a rank as large as a \
                 layer saves nothing",
                lora.rank
            )));
        }
        let refused = |error: model::ConfigError| Error::Config(error.to_string());
        let whole = match model {
            NetworkConfig::Gpt(_) => {
                lora.layers::<Gpt>().map_err(refused)?;
                if has_new_tokens { &[TOKEN_EMBEDDING][..] } else { &[] }
            }
            NetworkConfig::Bert(model) => {
                lora.layers::<Bert>().map_err(refused)?;
                modules_of_head(&model.head, &Bert::parameters_of(initial).keys().cloned().collect::<Vec<_>>())?
            }
        };
        let base_hash = adapter::weights_hash(base)?;
        Ok(Some(Self { config: lora.clone(), base: base.clone(), base_hash, whole }))
    }

    /// Refuses to go on from a checkpoint that was trained beside other weights.
    pub fn check(&self, resumed: &Path) -> Result<(), Error> {
        Ok(adapter::check_base(resumed, &self.base, &self.base_hash)?)
    }

    /// Everything but the adapter and what the adapted model lacks.
    pub fn frozen(&self) -> Freeze {
        Freeze { but_adapters: Some(self.whole), ..Freeze::default() }
    }

    /// A line for the person.
    pub fn described(&self) -> String {
        let LoraConfig { rank, alpha, dropout, .. } = self.config;
        let whole = match self.whole {
            [] => String::new(),
            names => format!("; trained whole beside it: {}", names.join(", ")),
        };
        format!("lora: a new adapter of rank {rank}, alpha {alpha}, dropout {dropout}{whole}")
    }

    /// The files of a checkpoint, in which the adapter stands for the weights.
    pub fn files(&self, network: &Network, model: &NetworkConfig, tokenizer: &Tokenizer) -> Contents {
        let contents = network.files(model, tokenizer);
        match network {
            Network::Gpt(gpt) => {
                adapter::with_adapter_only(contents, gpt, &self.to_peft("CAUSAL_LM", true), &self.base_hash)
            }
            Network::Bert(bert) => {
                let task = match model {
                    NetworkConfig::Bert(model) => match model.head {
                        BertHead::SequenceClassification { .. } => "SEQ_CLS",
                        BertHead::TokenClassification { .. } => "TOKEN_CLS",
                        _ => "",
                    },
                    NetworkConfig::Gpt(_) => "",
                };
                adapter::with_adapter_only(contents, bert, &self.to_peft(task, false), &self.base_hash)
            }
        }
    }

    /// `adapter_config.json`; `transposed` if the adapted layers store `[in, out]`, `task` empty if PEFT has no name for it.
    fn to_peft(&self, task: &str, transposed: bool) -> AdapterConfig {
        let all: &[&str] = if transposed { &["c_attn", "c_proj", "c_fc"] } else { &["query", "key", "value", DENSE] };
        let asked = || all.iter().map(ToString::to_string).collect();
        let asked: Vec<String> = self.config.target_modules.clone().unwrap_or_else(asked);
        // To PEFT, a pooler's layer is called so too.
        let of_blocks = ["attention.output.dense", "intermediate.dense", "output.dense"].map(String::from);
        let targets = asked.into_iter().flat_map(|name| if name == DENSE { of_blocks.to_vec() } else { vec![name] });
        let others: Map<String, Value> =
            [("inference_mode", json!(true)), ("init_lora_weights", json!(true)), ("use_dora", json!(false))]
                .map(|(key, value)| (key.to_string(), value))
                .into_iter()
                .collect();
        AdapterConfig {
            peft_type: "LORA".into(),
            task_type: Some(task).filter(|task| !task.is_empty()).map(String::from),
            base_model_name_or_path: Some(self.base.display().to_string()),
            r: self.config.rank,
            lora_alpha: self.config.alpha,
            lora_dropout: self.config.dropout,
            target_modules: json!(targets.collect::<Vec<_>>()),
            modules_to_save: adapter::saved_modules(self.whole),
            fan_in_fan_out: transposed,
            bias: "none".into(),
            use_rslora: false,
            ensure_weight_tying: false,
            others,
        }
    }
}

/// The end of the name of most of BERT's linear layers.
const DENSE: &str = "dense";

/// The modules of a BERT's head that an adapter holds whole, where the adapted model has the parameters `names`.
fn modules_of_head(head: &BertHead, names: &[String]) -> Result<&'static [&'static str], Error> {
    let has = |name: &str| names.iter().any(|other| other == name);
    match head {
        BertHead::SequenceClassification { .. } if has("bert.pooler.dense.weight") => Ok(&["classifier"]),
        BertHead::SequenceClassification { .. } => Ok(&["classifier", "pooler"]),
        BertHead::TokenClassification { .. } => Ok(&["classifier"]),
        head if head.predicts_tokens() && !has("cls.predictions.transform.dense.weight")
            || head.predicts_next_sentence() && !has("cls.seq_relationship.weight") =>
        {
            Err(Error::Config(format!(
                "`model.init_from` has no head of a {}, and an adapter cannot hold one; hint: train it whole first, without \
                 [lora]",
                head.architecture()
            )))
        }
        _ => Ok(&[]),
    }
}
