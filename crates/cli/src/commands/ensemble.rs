//! One or several classifiers that answer together.

use super::{checkpoint_dir, open_encoder};
use crate::report::{CHECKPOINT, Failure, USAGE};
use data::TextCleaner;
use data::config::ProblemConfig;
use data::source::labelled::{Answer, Example, answer};
use inference::{Classifier, Contribution, Text};
use model::OpenDevice;
use model::bert::Problem;
use std::path::{Path, PathBuf};
use trainer::Predictions;

/// One or several models with the same labels.
pub struct Ensemble {
    models: Vec<Classifier>,
    vote: bool,
}

impl Ensemble {
    /// Opens the first model and the others; they answer by the mean of their probabilities, or by `vote`.
    ///
    /// # Errors
    /// A model that cannot be opened, or whose answers are of another kind than the first's.
    pub fn open(first: &Path, others: &[PathBuf], vote: bool, device: &OpenDevice) -> Result<Self, Failure> {
        let open = |path: &Path| -> Result<Classifier, Failure> {
            let dir = checkpoint_dir(path)?;
            let opened = open_encoder(&dir, device)?;
            Ok(Classifier::new(opened, TextCleaner::beside(&dir)?, device.device.clone()))
        };
        let paths: Vec<&Path> = std::iter::once(first).chain(others.iter().map(PathBuf::as_path)).collect();
        let models = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        if models.len() > 1 && models[0].problem().is_none() {
            return Err(Failure::new(USAGE, "--ensemble is for classifiers of whole texts"));
        }
        for (path, model) in paths.iter().zip(&models) {
            let [said, of_first] = [answers(model), answers(&models[0])];
            if said != of_first {
                let (path, first) = (path.display(), first.display());
                return Err(Failure::new(CHECKPOINT, format!("{path} {said}, but {first} {of_first}")));
            }
        }
        Ok(Self { models, vote })
    }

    /// The first model.
    pub fn first(&self) -> &Classifier {
        &self.models[0]
    }

    /// The labels, by id.
    pub fn labels(&self) -> &[String] {
        self.first().labels()
    }

    /// From this probability on a label of several counts as given.
    pub fn threshold(&self) -> f64 {
        match self.first().problem() {
            // Of votes it takes half.
            Some(Problem::MultiLabel { threshold }) if !self.vote => threshold,
            _ => 0.5,
        }
    }

    /// Each text's probabilities by label, or its number: the models' mean. By vote it is the share of the models that
    /// chose a label, ties broken by their mean; of numbers the median.
    pub fn answer(&self, texts: &[Text]) -> Result<Vec<Vec<f64>>, data::Error> {
        self.answer_by(texts, |model| model.predict(texts))
    }

    /// How much each token speaks for `label`: the mean of what it does with each model, as the probability is.
    ///
    /// # Errors
    /// Models that vote, or cut the text in different tokens; as [`Classifier::explain`].
    pub fn explain(&self, text: &Text, label: usize) -> Result<Vec<Contribution>, Failure> {
        if self.vote {
            return Err(Failure::new(USAGE, "--explain is of probabilities, not of votes; hint: leave --vote out"));
        }
        let each = self.models.iter().map(|model| model.explain(text, label)).collect::<Result<Vec<_>, _>>()?;
        let tokens = |of_model: &[Contribution]| of_model.iter().map(|of| of.token.clone()).collect::<Vec<_>>();
        if each.iter().any(|of_model| tokens(of_model) != tokens(&each[0])) {
            let message = "the models cut the text in different tokens; hint: --explain with one of them alone";
            return Err(Failure::new(USAGE, message));
        }
        let contribution = |place: usize| Contribution {
            token: each[0][place].token.clone(),
            contribution: each.iter().map(|of_model| of_model[place].contribution).sum::<f64>() / each.len() as f64,
        };
        Ok((0..each[0].len()).map(contribution).collect())
    }

    fn answer_by(
        &self,
        texts: &[Text],
        ask: impl Fn(&Classifier) -> Result<Vec<Vec<f64>>, data::Error>,
    ) -> Result<Vec<Vec<f64>>, data::Error> {
        let each = self.models.iter().map(ask).collect::<Result<Vec<_>, _>>()?;
        let of_text = |text: usize| {
            let answers: Vec<&Vec<f64>> = each.iter().map(|model| &model[text]).collect();
            if self.vote { vote(&answers, self.first().problem()) } else { mean(&answers) }
        };
        Ok((0..texts.len()).map(of_text).collect())
    }

    /// The answers to labelled examples, beside their labels; the parts of a run's own data come `cleaned`.
    ///
    /// # Errors
    /// Models that clean texts in different ways, where they come cleaned in one of them; a text that cannot be read; a
    /// label that the models do not know.
    pub fn predictions(&self, examples: &[Example], cleaned: bool) -> Result<Predictions, Failure> {
        if cleaned && self.models.iter().any(|model| model.cleaner() != self.first().cleaner()) {
            let message = "the models clean texts in different ways; hint: --data FILE, which each cleans in its own";
            return Err(Failure::new(USAGE, message));
        }
        let problem = match self.first().problem() {
            Some(Problem::MultiLabel { .. }) => ProblemConfig::MultiLabel,
            Some(Problem::Regression) => ProblemConfig::Regression,
            _ => ProblemConfig::SingleLabel,
        };
        let texts: Vec<Text> = examples.iter().map(|example| (example.text.clone(), example.pair.clone())).collect();
        let scores = match cleaned {
            true => self.answer_by(&texts, |model| model.predict_cleaned(&texts))?,
            false => self.answer(&texts)?,
        };
        let scores = scores.into_iter().flatten();
        let truth = examples
            .iter()
            .map(|example| answer(problem, self.labels(), example))
            .collect::<Result<Vec<_>, data::Error>>()?;
        let class = |answer: &Answer| if let Answer::Class(id) = answer { *id as usize } else { 0 };
        let value = |answer: &Answer| if let Answer::Value(value) = answer { f64::from(*value) } else { 0.0 };
        let has = |answer: &Answer, id: u32| matches!(answer, Answer::Labels(ids) if ids.contains(&id));
        let labels = self.labels().len() as u32;
        Ok(match problem {
            ProblemConfig::SingleLabel => Predictions::Classes {
                truth: truth.iter().map(class).collect(),
                probabilities: scores.map(|score| score as f32).collect(),
            },
            ProblemConfig::MultiLabel => Predictions::Labels {
                truth: truth.iter().flat_map(|answer| (0..labels).map(move |id| has(answer, id))).collect(),
                probabilities: scores.map(|score| score as f32).collect(),
            },
            ProblemConfig::Regression => {
                Predictions::Values { truth: truth.iter().map(value).collect(), values: scores.collect() }
            }
        })
    }
}

/// What a model answers, after its name.
fn answers(model: &Classifier) -> String {
    let labels = model.labels();
    match model.problem() {
        Some(Problem::SingleLabel) => format!("gives one of {labels:?}"),
        Some(Problem::MultiLabel { threshold }) => format!("gives any of {labels:?} from {threshold} on"),
        Some(Problem::Regression) => "gives a number".into(),
        None if model.tags_words() => "tags words".into(),
        None => "fills masks".into(),
    }
}

fn mean(answers: &[&Vec<f64>]) -> Vec<f64> {
    let labels = answers.first().map_or(0, |answer| answer.len());
    (0..labels).map(|label| answers.iter().map(|answer| answer[label]).sum::<f64>() / answers.len() as f64).collect()
}

fn vote(answers: &[&Vec<f64>], problem: Option<Problem>) -> Vec<f64> {
    let models = answers.len() as f64;
    let labels = answers.first().map_or(0, |answer| answer.len());
    let votes = |chosen: &dyn Fn(&Vec<f64>) -> bool| answers.iter().filter(|answer| chosen(answer)).count() as f64;
    match problem {
        Some(Problem::Regression) => (0..labels)
            .map(|label| {
                let mut values: Vec<f64> = answers.iter().map(|answer| answer[label]).collect();
                values.sort_by(f64::total_cmp);
                let middle = values.len() / 2;
                if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
            })
            .collect(),
        Some(Problem::MultiLabel { threshold }) => {
            (0..labels).map(|label| votes(&|answer| answer[label] >= threshold) / models).collect()
        }
        _ => {
            let best =
                |answer: &Vec<f64>| (0..labels).fold(0, |best, i| if answer[i] > answer[best] { i } else { best });
            // One vote more, which the mean probabilities share, decides between labels with as many votes.
            let mean = mean(answers);
            (0..labels).map(|label| (votes(&|answer| best(answer) == label) + mean[label]) / (models + 1.0)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_wins_a_vote_and_the_mean_decides_between_equals() {
        let [a, b, c] = [vec![0.9, 0.1, 0.0], vec![0.3, 0.4, 0.3], vec![0.2, 0.5, 0.3]];
        let single = Some(Problem::SingleLabel);
        let of_three = vote(&[&a, &b, &c], single);
        assert!(of_three[1] > of_three[0] && mean(&[&a, &b, &c])[0] > mean(&[&a, &b, &c])[1]);
        assert!((of_three.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let of_two = vote(&[&a, &b], single);
        assert!(of_two[0] > of_two[1], "{of_two:?}");
        let several = vote(&[&a, &b, &c], Some(Problem::MultiLabel { threshold: 0.35 }));
        assert!((several[0] - 1.0 / 3.0).abs() < 1e-12 && (several[1] - 2.0 / 3.0).abs() < 1e-12);
        let numbers = [vec![1.0], vec![9.0], vec![2.0], vec![3.0]];
        assert_eq!(vote(&numbers.iter().collect::<Vec<_>>(), Some(Problem::Regression)), [2.5]);
    }
}
